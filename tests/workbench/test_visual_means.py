"""What trivial means against invention do to captions of the bundled llava: sooner ends, unsure words left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from visual_hooks import picture

import workbench as wb
from workbench.tasks.object_words import object_words
from workbench.tasks.scenes import scenes
from workbench.tasks.wording import describing
from workbench.visual_methods.pictures import Pictures
from workbench.visual_methods.saying import Said, captions, said_surely
from workbench.visual_methods.trivial import biases, ended, lengths, truncated, without_unsure


@pytest.fixture(scope="module")
def model():
    return wb.load("llava")


@pytest.fixture(scope="module")
def shown(model):
    return Pictures(model, [s.image for s in scenes("score", 4, seed=3, counterfactual=True)], describing(model))


@torch.no_grad()
def test_captions_and_how_sure_they_are(model, shown):
    said = said_surely(model, shown, 40)
    assert [s.text for s in said] == captions(model, shown, 40)
    for b, one in enumerate(said):
        ids = [*shown.tokens[b].tolist(), *model.tokenizer(one.text, add_special_tokens=False)["input_ids"]]
        logits = model.bridge(torch.tensor([ids]), return_type="logits", **picture(shown, b))[0].log_softmax(-1)
        start = shown.tokens.shape[1]
        expected = [float(logits[i - 1, ids[i]]) for i in range(start, len(ids))]
        assert len(one.log_p) == len(one.ends) == len(expected) and one.ends[-1] == len(one.text)
        assert np.allclose(one.log_p, expected, atol=1e-3)
        mention = object_words().mentions(one.text)[0]
        word = one.text[: mention.start].split()
        assert one.log_probability(mention.start, mention.end) == pytest.approx(expected[len(word)], abs=1e-3)


@torch.no_grad()
def test_a_sooner_end_is_that_of_decoding(model, shown):
    """By a hook on the logits, which generates anew."""
    said, stop = said_surely(model, shown, 40), model.stop_tokens
    grid = biases(said)
    assert len(grid) > 6 and sorted(grid) == list(grid)
    for bias in (0.0, *grid, 1e4):

        def hook(logits, hook, bias=bias):
            logits = logits.clone()
            logits[..., stop] += bias * (1 + 1e-6)  # what was overtaken exactly stays said
            return logits

        with model.bridge.hooks(fwd_hooks=[("unembed.hook_out", hook)]):
            expected = captions(model, shown, 40)
        assert [ended(s, bias * (1 + 1e-6)) for s in said] == expected
    assert expected == [""] * len(shown) and len({ended(said[0], b) for b in grid}) > 2


def test_trivial_means_by_hand():
    log_p = tuple(math.log(p) for p in (1, 0.9, 1, 1, 0.5, 0.4))
    said = Said("a cup and a tv set", (1, 5, 9, 11, 14, 18), log_p, (9, 9, 4, 9, 2, 9))
    assert ended(said, 2) == said.text and ended(said, 3) == "a cup and a" and ended(said, 5) == "a cup"
    assert ended(said, 10) == "" and biases([said]) == (2, 4, 9)
    assert said.log_probability(2, 5) == pytest.approx(math.log(0.9))
    words = object_words()
    assert [m.object for m in words.mentions(said.text)] == ["cup", "tv"]
    assert without_unsure(said, 0.2, words) == said.text
    assert [m.object for m in words.mentions(without_unsure(said, 0.6, words))] == ["cup"]
    assert [m.object for m in words.mentions(without_unsure(said, 0.95, words))] == []
    assert truncated("a cup and a tv", 2) == "a cup" and truncated("a cup", 9) == "a cup"
    assert lengths(["a b c d", "a"]) == (3, 2, 1)
    assert len(lengths(["a " * 400])) <= 40
