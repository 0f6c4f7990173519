"""Edits are made into sheets once a text, not once a step; and what is kept is what would be made anew."""

from __future__ import annotations

import pytest
import tiny_models
import torch

import workbench as wb
from workbench.interventions import class_table, compiling
from workbench.interventions.memory import HOME

HEADS = [(0, 1), (1, 3), (2, 0)]
PADDED = torch.arange(16)[None] >= torch.tensor([[0], [5]])


@pytest.fixture(scope="module", params=["llama", "mistral"])
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


def tokens(b: int = 2, n: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 97, (b, n), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def counted(monkeypatch):
    """Layers of the sheets that are made."""
    made, make = [], compiling._sheet
    monkeypatch.setattr(compiling, "_sheet", lambda model, layer, *a: made.append(layer) or make(model, layer, *a))
    return made


EDITS = {
    "gain": (lambda: wb.scale(HEADS, 0.5), 3),
    "classes": (lambda: wb.amplify(HEADS, (2, 9), 8) + wb.window([(0, 2)], 1, 4), 3),
    "phases": (lambda: wb.amplify(HEADS, (7,), 8, at="decode") + wb.mask(HEADS, at="prefill"), 6),
    "rule": (lambda: wb.calibrate(HEADS, 0.0, a=1.5, rule="paper"), 3),
    "by row": (lambda: [wb.scale(HEADS, 0.5), wb.calibrate(HEADS, 0.1, keys=(6,))], 3),
    "by column": (lambda: wb.set_pattern([(1, 3)], (9,), (5,), [1.0]) + wb.scale([(0, 1)], 2), 1 + 12),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_steps_do_not_make_sheets(model, counted, name: str):
    make, sheets = EDITS[name]
    with wb.intervene(model, make()):
        model.generate(tokens(), 12, stop=[])

    assert len(counted) == sheets


@torch.no_grad()
def test_another_edit_or_another_padding_makes_them_anew(model, counted):
    edit, x = wb.amplify(HEADS, (7,), 8), tokens()
    cache = model.forward(x, PADDED, edits=edit, use_cache=True).cache
    more = torch.nn.functional.pad(PADDED, (0, 1), value=True)
    model.forward(x[:, :1], more, edits=edit, cache=cache)
    assert len(counted) == 3
    other = model.forward(
        x[:, 1:2], torch.nn.functional.pad(more, (0, 1), value=True), edits=wb.scale(HEADS, 0), cache=cache
    )
    assert len(counted) == 6
    model.forward(x[:, :1], edits=wb.scale(HEADS, 0), use_cache=True)
    assert len(counted) == 9 and other.logits.isfinite().all()
    plain = model.forward(x, use_cache=True).cache
    assert not hasattr(plain, HOME)


@torch.no_grad()
def test_a_growing_text_outgrows_its_tables(model, monkeypatch):
    """The tables are longer than the text and grow with it; a sliding cache reads them further along."""
    monkeypatch.setattr(class_table, "ROOM", 2)
    monkeypatch.setattr(compiling, "ROOM", 2)
    edit, x = wb.amplify(HEADS, (2, 13), 30) + wb.calibrate([(1, 6)], 0.1, a=1.5), tokens(2, 26)
    whole = model.forward(x, edits=edit, decode_from=[15]).logits
    step = model.forward(x[:, :16], edits=edit, decode_from=[15], use_cache=True)
    parts, cache = [step.logits], step.cache
    for i in range(16, 26):
        parts.append(model.forward(x[:, i : i + 1], edits=edit, decode_from=[15], cache=cache).logits)
    assert (torch.cat(parts, 1) - whole).abs().max() <= 2e-5 * whole.abs().max()
    assert (whole - model(x)).abs().max() > 1e-3 * whole.abs().max()
