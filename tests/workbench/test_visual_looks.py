"""Maps of what heads looked at in a picture, word by word, against patterns of the plain bridge."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_processors
import torch
from word_tokenizers import bpe

import workbench as wb
from workbench import images
from workbench.errors import BadInput
from workbench.tasks.scene_answers import PLACEHOLDER
from workbench.tasks.scenes import DESCRIBE, scenes
from workbench.visual import tell
from workbench.visual.looks import LEVELS, look_at, sentence

EDIT = wb.amplify([(2, 1), (3, 4)], tuple(range(1, 17)), 4.0, at="decode")


@pytest.fixture(scope="module")
def shown():
    model, them = wb.load("llava"), scenes("score", 3, counterfactual=True)
    asked = images.prompt(model, [PLACEHOLDER + DESCRIBE] * 3, [s.image for s in them])
    return model, them, tell(model, asked)


def patterns(model, told, i: int) -> np.ndarray:
    """[t, layers, heads, parts] of caption i alone, from hook_pattern of the plain bridge."""
    some, kept = told.some([i]), {}
    length = int(told.length[i])
    tokens = torch.cat([some.prompt.tokens, some.said[:, :length]], 1)
    hooks = [
        (f"blocks.{n}.attn.hook_pattern", lambda p, hook: kept.__setitem__(hook.layer(), p))
        for n in range(model.n_layers)
    ]
    model.bridge.run_with_hooks(tokens, fwd_hooks=hooks, **some.prompt.inputs)
    first = some.prompt.tokens.shape[1] - 1
    whole = torch.stack([kept[n][0, :, first : first + length] for n in range(model.n_layers)], 1)
    return whole.movedim(2, 0).transpose(1, 2)[..., told.columns[i]].detach().numpy()


@torch.no_grad()
def test_maps_equal_patterns_of_the_plain_bridge(shown):
    model, them, told = shown
    assert len(set(told.length.tolist())) > 1, "captions of several lengths in one batch"
    looks = look_at(model, told, [s.image for s in them], [s.objects for s in them], [s.name for s in them])
    for i, one in enumerate(looks):
        theirs = patterns(model, told, i)
        assert one.weights().shape == (len(one.words), model.n_layers, model.n_heads, 4, 4)
        tops = theirs.max(-1)
        np.testing.assert_allclose(one.tops, tops, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(one.mass, theirs.sum(-1), atol=2e-5, rtol=1e-4)
        apart = np.abs(one.weights().reshape(theirs.shape) - theirs)
        assert (apart <= tops[..., None] / (2 * LEVELS) + 3e-5).all()
        assert one.text == model.tokenizer.decode(told.said[i, : told.length[i]], skip_special_tokens=True)
        np.testing.assert_array_equal(one.pixels, them[i].pixels)
    assert np.abs(looks[0].mass[0] - looks[1].mass[0]).max() > 1e-3, "another picture is seen otherwise"


@torch.no_grad()
def test_maps_are_those_under_an_edit(shown):
    model, them, told = shown
    pictures = [s.image for s in them]
    plain, edited = look_at(model, told, pictures), look_at(model, told, pictures, edits=EDIT)
    with wb.intervene(model, EDIT):
        inside = look_at(model, told, pictures)
    more = edited[0].mass[:, 2, 1] - plain[0].mass[:, 2, 1]
    a = plain[0].mass[:, 2, 1]
    np.testing.assert_allclose(edited[0].mass[:, 2, 1], 4 * a / (1 + 3 * a), atol=1e-5)
    assert more.max() > 1e-3 and np.array_equal(plain[0].mass[:, 0], edited[0].mass[:, 0])
    np.testing.assert_allclose(inside[0].mass[0], edited[0].mass[0], atol=1e-6)


def test_words_are_marked_by_what_is_there(shown):
    model, them, told = shown
    for s, one in zip(them, look_at(model, told, [s.image for s in them], [s.objects for s in them]), strict=True):
        marks = {w.object: w.invented for w in one.words if w.object}
        assert marks and all(invented == (object not in s.objects) for object, invented in marks.items())
    [unknown, *_] = look_at(model, told, [s.image for s in them])
    assert {w.invented for w in unknown.words} == {None} and any(w.object for w in unknown.words)


def test_words_of_several_tokens_and_several_words():
    text = "A traffic light above two dogs, unbelievable!"
    tokenizer = bpe(["a dog above two light s , ."], 300)
    ids = tokenizer(text)["input_ids"]
    said, parts = sentence(tokenizer, ids, ["dog"])
    assert [s.text for s in said] == text.split()
    assert [(s.object, s.invented) for s in said[1:3]] == [("traffic light", True)] * 2
    assert said[5].object == "dog" and said[5].invented is False and not said[0].object
    blank = [i for i, t in enumerate(ids) if not tokenizer.decode([t]).strip()]
    assert sorted([i for p in parts for i in p] + blank) == list(range(len(ids))) and len(parts[-1]) > 3
    for word, tokens in zip(said, parts, strict=True):
        assert tokenizer.decode([ids[i] for i in tokens]).strip() == word.text
    with pytest.raises(BadInput, match="'unicorn' is no word"):
        sentence(tokenizer, ids, ["unicorn"])


@torch.no_grad()
def test_a_word_of_several_tokens_gets_their_mean(shown):
    model, them, told = shown
    one = told.some([0])
    theirs, n = patterns(model, told, 0), int(told.length[0])

    class Joined:
        """The model's tokenizer, that joins tokens two by two."""

        def decode(self, ids, **_):
            return " ".join("x" * len(ids[i : i + 2]) for i in range(0, len(ids), 2))

    before, model.tokenizer = model.tokenizer, Joined()
    try:
        [found] = look_at(model, one, [them[0].image])
    finally:
        model.tokenizer = before
    assert len(found.words) == -(-n // 2)
    means = np.stack([theirs[i : i + 2].mean(0) for i in range(0, n, 2)])
    np.testing.assert_allclose(found.mass, means.sum(-1), atol=2e-5, rtol=1e-4)
    np.testing.assert_allclose(found.tops, means.max(-1), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_two_views_of_one_picture_share_a_scale(tmp_path):
    model = wb.load(tiny_processors.save("llava_next", tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    told = tell(model, images.prompt(model, "<image> w3 w4", picture), 5)
    [one] = look_at(model, told, [picture])
    assert [g.name for g in one.grids] == ["overview", "tiles"] and one.levels[1].shape[-2:] == (2, 4)
    theirs, places = patterns(model, told, 0), {c: i for i, c in enumerate(told.columns[0])}
    for view, grid in enumerate(one.grids):
        apart = one.weights(view) - theirs[..., [[places[c] for c in row] for row in grid.columns.tolist()]]
        assert np.abs(apart).max() <= one.tops.max() / (2 * LEVELS) + 3e-5
    np.testing.assert_allclose(one.mass, theirs.sum(-1), atol=2e-5)
    assert (one.mass - sum(one.weights(v).sum((-1, -2)) for v in (0, 1))).max() > 1e-3, "newlines are looked at, too"


def test_what_does_not_fit_is_said(shown):
    model, them, told = shown
    pictures = [s.image for s in them]
    for run, said in (
        (lambda: look_at(model, told, pictures[:2]), "2 pictures for 3 captions"),
        (lambda: look_at(model, told, pictures, [[]]), "1 sets of objects for 3 captions"),
        (lambda: look_at(model, told, pictures, names=["a"]), "1 names for 3 captions"),
        (lambda: look_at(model, told, [np.zeros((4, 4))] * 3), "give a PIL image or bytes"),
    ):
        with pytest.raises(BadInput, match=said):
            run()
