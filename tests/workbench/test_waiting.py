"""Memory that runs out while answers wait to be decoded: they are decoded, fewer wait, and no score changes."""

from __future__ import annotations

import warnings
import weakref

import pytest
import torch
from plain_retrieval import check, random_case

from workbench.budget import FewerRows, RanOut
from workbench.probes import retrieval, waiting
from workbench.probes.retrieval import score_block


@pytest.fixture
def full(monkeypatch):
    """Let a model run out of memory while it holds more than so many copied caches; gives the lengths of decoded lots."""

    def start(model, most):
        live, lots, forward, copy, decode = weakref.WeakSet(), [], model.forward, retrieval.copy_cache, waiting.decode

        def copied(*args):
            cache = copy(*args)
            live.add(cache)
            return cache

        def spy(tokens, attention_mask=None, **options):
            held = sum(1 for c in live if c.layers and c.layers[0].keys is not None)
            if held > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return forward(tokens, attention_mask, **options)

        def decoded(model, branches, stops):
            lots.extend([len(branches)] * bool(branches))
            decode(model, branches, stops)

        monkeypatch.setattr(retrieval, "copy_cache", copied)
        monkeypatch.setattr(waiting, "decode", decoded)
        monkeypatch.setattr(model, "forward", spy)
        return lots

    return start


def test_answers_that_wait_make_room_for_the_next_sample(tmp_path, monkeypatch, full):
    case = random_case("llama", tmp_path)
    monkeypatch.setitem(retrieval.MARGIN, torch.float32, float("inf"))  # no forward settles anything: all wait
    lots = full(case.model, 4)
    with pytest.warns(FewerRows, match="needles: memory ran out on cpu with 6 rows at a time; going on with 3") as said:
        scores = score_block(case.model, case.block, case.stops)
    assert check(case, scores) >= 5 and len(said) == 1
    assert sum(lots) == len(case.block.samples) and lots[0] == 5 and max(lots[1:]) <= 3
    lots.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = score_block(case.model, case.block, case.stops)  # it is remembered
    assert max(lots) <= 3 and [s.response for s in again] == [s.response for s in scores]


def test_where_nothing_waits_it_is_said_in_one_line(tmp_path, full):
    case = random_case("llama", tmp_path)
    full(case.model, -1)
    with pytest.raises(RanOut, match="needles: memory ran out on cpu with one row at a time: give shorter") as error:
        score_block(case.model, case.block, case.stops)
    assert "\n" not in str(error.value)
    with pytest.raises(RanOut, match="needles"):
        retrieval.score_samples(case.model, case.block.samples, case.stops)
