"""Guess and check gives what one token at a time gives, whatever the guess."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_policies import setting, tiny

from workbench.policies import named
from workbench.simulation import generating
from workbench.simulation.cases import Batch, Case
from workbench.simulation.decoding import decode
from workbench.simulation.generating import greedy
from workbench.simulation.reading_prompts import read_whole, told
from workbench.tasks.ruler import Row

NEW = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("llama"))


def one_by_one(model, case, scheme):
    """Each token from a decode of its own, of this case alone."""
    said = []
    while len(said) < NEW:
        tokens = (*case.tokens[: len(case.tokens) - case.scored], *said, 0)
        batch = Batch.of([replace(case, tokens=tokens, scored=1)], model.device)
        said.append(int(decode(model, read_whole(model, batch)[0], scheme)[0][0, -1].argmax()))
    return said


@pytest.mark.parametrize(("name", "again"), [("duo", 0), ("snapkv", 1)])
def test_any_guess_is_mended_into_the_greedy_answer(model, again, name):
    rng, row = np.random.default_rng(11 + again), Row("x", ("y",), "niah", new_tokens=NEW)
    cases = []
    for n, scored in ((61, 4), (66, NEW), (70, 1)):
        tokens = tuple(rng.integers(3, 90, n + scored + 2 * (1 - again)).tolist())
        cases.append(Case(tokens, n, scored, again, "niah", row=row))
    scheme = named(name)[0].make(setting(0.4))

    def answers(some, ends):
        batch = Batch.of(some, model.device)
        prompts, packs = read_whole(model, batch)[0], {}
        logits, _ = decode(model, prompts, scheme, packs)
        return greedy(model, prompts, scheme, packs, told(logits, some), ends)

    expected = [one_by_one(model, case, scheme) for case in cases]
    assert answers(cases, set()) == expected and all(len(a) == NEW for a in expected)
    ends = {expected[0][3], expected[1][4]}
    stops = [next((i + 1 for i, t in enumerate(a) if t in ends), NEW) for a in expected]
    assert answers(cases, ends) == [a[:stop] for a, stop in zip(expected, stops, strict=True)] != expected


def test_a_right_guess_is_checked_once(model, monkeypatch):
    rng = np.random.default_rng(3)
    case = Case(tuple(rng.integers(3, 90, 66).tolist()), 61, 5, 1, "niah", row=Row("x", ("y",), "niah", new_tokens=5))
    scheme, calls = named("snapkv")[0].make(setting(0.4)), []
    said = one_by_one(model, replace(case, tokens=case.tokens[:-5] + (0,), scored=1), scheme)[:5]
    right = replace(case, tokens=(*case.tokens[:-5], *said))
    prompts, packs = read_whole(model, Batch.of([right], torch.device("cpu")))[0], {}
    logits = told(decode(model, prompts, scheme, packs)[0], [right])
    monkeypatch.setattr(generating, "decode", lambda *a: calls.append(a))
    assert greedy(model, prompts, scheme, packs, logits, set()) == [said] and not calls
