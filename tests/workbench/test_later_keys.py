"""Edits that also mean keys which a text gets later, against hooks on the plain bridge, cached, padded and by row."""

from __future__ import annotations

import json

import pytest
import tiny_models
import torch

import workbench as wb
from workbench.errors import BadInput, EditConflict
from workbench.interventions import Edit, Intervention

HEADS = [(0, 1), (1, 3), (1, 6), (2, 0)]
PROMPT, N = 12, 24
BEHIND, SOURCES, TARGETS = tuple(range(7, PROMPT)), (2, 4), (3, 5, 6)


@pytest.fixture(scope="module", params=["llama", "gpt_oss"])
def model(request, tmp_path_factory):
    """gpt_oss: sliding windows and learned sinks."""
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


def tokens(b: int = 2, n: int = N, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 97, (b, n), generator=torch.Generator().manual_seed(seed))


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 2e-5) -> None:
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def suppressed(p: torch.Tensor, above: float = 0.3) -> torch.Tensor:
    """A row [keys]: everything from column 7 on is gone where it has much."""
    new = p.clone()
    if p[7:].sum() > above:
        new[7:] = 0
    return new


def redirected(p: torch.Tensor, gain: float = 0.25) -> torch.Tensor:
    """A row [keys]: weight moves from sources to targets, key by key."""
    new, have = p.clone(), sum(float(p[t]) for t in TARGETS)
    if have == 0:
        return new
    freed = sum(float(p[s]) * (1 - gain) for s in SOURCES)
    for s in SOURCES:
        new[s] = p[s] * gain
    for t in TARGETS:
        new[t] = p[t] + freed * p[t] / have
    return new


EDITS = {
    "suppress": (lambda at: wb.suppress(HEADS, BEHIND, above=0.3, at=at, later=True), suppressed),
    "redirect": (lambda at: wb.redirect(HEADS, SOURCES, TARGETS, 0.25, at=at), redirected),
}


def hooked(model, x: torch.Tensor, rule, first: int) -> torch.Tensor:
    """Logits of the plain bridge, the rule applied to query rows from `first` on."""

    def hook(p, hook):
        p = p.clone()
        for layer, head in HEADS:
            for b in range(len(p) if layer == hook.layer() else 0):
                for q in range(first, p.shape[2]):
                    p[b, head, q] = rule(p[b, head, q])
        return p

    hooks = [(f"blocks.{i}.attn.hook_pattern", hook) for i in range(model.n_layers)]
    return model.bridge.run_with_hooks(x, fwd_hooks=hooks)


@pytest.mark.parametrize("name", EDITS)
@torch.no_grad()
def test_it_equals_a_hook_and_cached_decoding(model, name: str):
    x, (edit, rule) = tokens(), EDITS[name]
    expected = hooked(model, x, rule, PROMPT - 1)
    whole = model.forward(x, edits=edit("decode"), decode_from=[PROMPT - 1]).logits
    close(whole, expected)
    assert (whole - model(x)).abs().max() > 1e-3 * whole.abs().max(), "the edit did nothing"
    step = model.forward(x[:, :PROMPT], edits=edit("decode"), use_cache=True)
    parts, cache, held = [step.logits], step.cache, edit("decode")
    for i in range(PROMPT, N):
        step = model.forward(x[:, i : i + 1], edits=held, decode_from=[PROMPT - 1], cache=cache)
        parts.append(step.logits)
    close(torch.cat(parts, 1), expected)


@torch.no_grad()
def test_keys_to_come_matter(model):
    """Without `later` generated keys are left alone, which gives other logits."""
    x = tokens()
    now, then = (wb.suppress(HEADS, BEHIND, above=0.0, at="decode", later=later) for later in (False, True))
    a, b = (model.forward(x, edits=e, decode_from=[PROMPT - 1]).logits for e in (now, then))
    close(a[:, :PROMPT], b[:, :PROMPT])
    assert (a - b).abs().max() > 1e-3 * a.abs().max()


@torch.no_grad()
def test_beyond_the_room_of_a_sheet(model, monkeypatch):
    """A text that outgrows its class table: the columns that are added are of the same class."""
    from workbench.interventions import class_table, compiling

    for module in (class_table, compiling):
        monkeypatch.setattr(module, "ROOM", 3)
    x, (edit, rule) = tokens(), EDITS["suppress"]
    held = edit("decode")
    step = model.forward(x[:, :PROMPT], edits=held, use_cache=True)
    for i in range(PROMPT, N):
        step = model.forward(x[:, i : i + 1], edits=held, decode_from=[PROMPT - 1], cache=step.cache)
    close(step.logits[:, -1], hooked(model, x, rule, PROMPT - 1)[:, -1])


@torch.no_grad()
def test_padding_on_both_sides_and_rows_of_their_own(model):
    x = tokens(1, PROMPT)
    for name, by in (("suppress", 3), ("redirect", 3)):
        edit = Edit.from_json(_moved(EDITS[name][0]("both").to_json(), by))
        padded = torch.cat([torch.zeros(1, by, dtype=torch.long), x, torch.zeros(1, 2, dtype=torch.long)], 1)
        keep = torch.ones_like(padded, dtype=torch.bool)
        keep[:, :by] = keep[:, -2:] = False
        alone = model.forward(x, edits=EDITS[name][0]("both")).logits
        close(model.forward(padded, keep, edits=edit).logits[:, by:-2], alone)
    two = tokens(2)
    rows = [wb.redirect(HEADS, (2,), (3, 5)), wb.suppress(HEADS, (9, 10), later=True)]
    both = model.forward(two, edits=rows).logits
    for i, edit in enumerate(rows):
        close(both[i : i + 1], model.forward(two[i : i + 1], edits=edit).logits)
    listed = wb.redirect(HEADS, [(2,), (4, 6)], [(3, 5), (1,)])
    alone = [model.forward(two[i : i + 1], edits=wb.redirect(HEADS, s, t)).logits
             for i, (s, t) in enumerate([((2,), (3, 5)), ((4, 6), (1,))])]  # fmt: skip
    close(model.forward(two, edits=listed).logits, torch.cat(alone))


def _moved(record: dict, by: int) -> dict:
    moved = {k: [[c + by for c in row] for row in v] if k in ("keys", "to") else v for k, v in record.items()}
    return json.loads(json.dumps(moved))


@torch.no_grad()
def test_neutral_json_and_refusals(model):
    x = tokens()
    close(model.forward(x, edits=wb.redirect(HEADS, SOURCES, TARGETS, 1.0)).logits, model(x), 1e-6)
    edits = Intervention(tuple(make("decode") for make, _ in EDITS.values()))
    assert Intervention.from_json(json.loads(json.dumps(edits.to_json()))) == edits
    with pytest.raises(BadInput, match="both in keys= and in to="):
        wb.redirect(HEADS, (1, 2), (2, 3))
    with pytest.raises(BadInput, match="one entry for all batch rows"):
        wb.redirect(HEADS, [(1,), (2,)], [(3,), (4,), (5,)])
    twice = wb.suppress([(0, 1)], (3,), later=True) + wb.suppress([(0, 1)], (5,), later=True)
    with pytest.raises(EditConflict, match="L0H1"):
        model.forward(x, edits=twice)
