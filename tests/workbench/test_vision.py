"""Processors of vision-language models without torchvision, and where in a picture each placeholder looks."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_architectures
import tiny_models
import tiny_processors
import torch
from tiny_models import IMAGE

import workbench as wb
from workbench import images
from workbench.errors import BadInput, Unsupported
from workbench.visual.grids import grids

WIDE = {"llava_next", "llava_onevision", "qwen2_5_vl", "qwen3_vl"}
"""Kinds whose processors keep a picture's shape."""


def picture(height: int = 8, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=[*tiny_processors.LAST])
def seeing(request, tmp_path_factory):
    return request.param, wb.load(tiny_processors.save(request.param, tmp_path_factory.mktemp(request.param)))


@torch.no_grad()
def test_a_prompt_with_its_picture_runs_and_is_answered(seeing):
    kind, model = seeing
    shape = (8, 16) if kind in WIDE else (8, 8)
    asked = images.prompt(model, tiny_processors.ASKED.get(kind, "<image> w3 w4"), picture(*shape))
    parts = {"llava_next": 14, "llava_onevision": 14, "qwen2_5_vl": 8, "qwen3_vl": 8}.get(kind, 4)
    assert int(images.positions(model, asked.tokens).sum()) == parts
    assert asked.tokens[0, -2:].tolist() == [6, 7]
    assert (asked.tokens[0, 0] == 1) != kind.startswith("qwen"), "Qwen's texts begin with no token of their own"
    plain = tiny_models.hugging_face(model.label)
    theirs = plain(input_ids=asked.tokens, **asked.inputs).logits
    torch.testing.assert_close(model(asked.tokens, inputs=asked.inputs), theirs, atol=1e-4, rtol=1e-4)
    other = images.prompt(model, tiny_processors.ASKED.get(kind, "<image> w3 w4"), picture(*shape, seed=1))
    assert (model(other.tokens, inputs=other.inputs) - theirs).abs().max() > 1e-2, "the picture must matter"
    new = plain.generate(input_ids=asked.tokens, max_new_tokens=4, do_sample=False, eos_token_id=[], **asked.inputs)
    ours = model.generate(asked.tokens, 4, stop=[], inputs=asked.inputs)
    assert ours.tolist() == new[:, asked.tokens.shape[1] :].tolist()
    with pytest.raises(BadInput) as said:
        images.prompt(model, tiny_processors.ASKED.get(kind, "<image> w3 w4"), [picture(*shape)] * 2)
    assert "\n" not in str(said.value)


@torch.no_grad()
def test_a_grid_says_where_each_placeholder_looks(seeing, monkeypatch):
    """A patch of the picture is changed; the placeholder that changes most is the one that the grid names.

    The random tower's own attention, which mixes patches, is put out.
    """
    kind, model = seeing
    for name, p in model.bridge.original_model.named_parameters():
        if "vision" in name and "out_proj" in name and name.endswith("weight"):
            monkeypatch.setattr(p, "data", torch.zeros_like(p.data))
    shape = (8, 16) if kind in WIDE else (8, 8)
    plain, before = picture(*shape), None

    def features(pixels: np.ndarray):
        asked, kept = images.prompt(model, tiny_processors.ASKED.get(kind, "<image> w3 w4"), pixels), []
        hooks = [("blocks.0.hook_in", lambda x, hook: kept.append(x.clone()))]
        model.bridge.run_with_hooks(asked.tokens, fwd_hooks=hooks, **asked.inputs)
        return asked, kept[0][0]

    asked, before = features(plain)
    views = grids(model, asked, shape)
    assert [v.name for v in views] == (["overview", "tiles"] if kind.startswith("llava") else ["picture"])
    assert len({int(c) for v in views for c in v.columns.ravel()}) == sum(v.columns.size for v in views)
    rows, columns = views[-1].columns.shape
    assert (rows, columns) == (shape[0] // 4, shape[1] // 4)
    for row, column in np.ndindex(rows, columns):
        changed = plain.copy()
        changed[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = (
            255 - changed[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        )
        moved = (features(changed)[1] - before).norm(dim=-1)
        at = views[-1].columns
        assert int(moved[torch.from_numpy(at)].argmax()) == row * columns + column, (kind, row, column)


@torch.no_grad()
def test_tiles_are_put_together_by_the_names_before_them(tmp_path):
    model = wb.load(tiny_processors.save("idefics3", tmp_path, tiles=True))
    asked = images.prompt(model, "<image> w3 w4", picture(16, 32))
    overview, tiles = grids(model, asked, (16, 32))
    assert overview.columns.shape == (2, 2) and tiles.columns.shape[1] == 2 * tiles.columns.shape[0]
    names = model.tokenizer.convert_ids_to_tokens(asked.tokens[0])
    for (row, column), place in np.ndenumerate(tiles.columns):
        tile = names[place - 1 - (row % 2 * 2 + column % 2)]
        assert tile == f"<row_{row // 2 + 1}_col_{column // 2 + 1}>"
    hidden = images.Prompt(asked.tokens.where(asked.tokens >= IMAGE, 5), asked.inputs)
    with pytest.raises(Unsupported, match="do_image_splitting=False"):
        grids(model, hidden)


def test_a_cut_out_middle_is_said_in_shares_of_the_picture(tmp_path):
    model = wb.load(tiny_models.save("llava", tmp_path))
    asked = images.prompt(model, "<image> w3", picture(10, 20))
    [grid] = grids(model, asked, (10, 20))
    assert grid.columns.tolist() == [[1, 2], [3, 4]] and grid.box == pytest.approx((0.25, 0, 0.75, 1))
    assert grids(model, asked)[0].box == (0, 0, 1, 1)
    two = images.prompt(model, ["<image> w3", "<image> w4"], [picture(), picture()])
    short = images.Prompt(asked.tokens[:, :-2], asked.inputs)
    blind = images.Prompt(asked.tokens[:, -1:], {})
    unsaid = images.Prompt(asked.tokens, {})
    for given, kind, said in (
        (two, BadInput, "give one"), (blind, BadInput, "no placeholder"), (unsaid, Unsupported, "no pixel_values"),
        (short, Unsupported, "3 placeholders for a grid of 2 × 2"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said) as error:
            grids(model, given)
        assert error.type is kind, "places that are not known are told from questions that cannot be meant"
    llama = wb.load(tiny_models.save("llama", tmp_path / "llama"))
    with pytest.raises(Unsupported, match="llama looks in a picture is not known"):
        grids(llama, blind)


def test_a_processor_that_cannot_be_made_is_explained(tmp_path):
    """Qwen's without a saved processor, and SmolVLM's, which wants another package."""
    for kind, said in (("qwen2_5_vl", "so it reads no pictures"), ("smolvlm", "so it reads no pictures")):
        model = wb.load(tiny_models.save(kind, tmp_path / kind, of=tiny_architectures.seeing(kind)))
        with pytest.raises(Unsupported, match=said) as error:
            images.prompt(model, "<image> w3", picture())
        assert "\n" not in str(error.value) and "(" in str(error.value).split("loaded")[1]
