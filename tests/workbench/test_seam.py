"""The seam against the eager bridge: logits, hooks, padding, decoding, edits, gradients, resuming."""

from __future__ import annotations

import warnings

import pytest
import tiny_models
import torch
from workbench_kernels import Reductions

import workbench as wb
from workbench.errors import BadInput, EditConflict, TooLarge
from workbench.interventions import mask, reference, scale, window
from workbench.plan import Plan

TOLERANCE = 5e-6  # of max|logit|: SDPA sums in another order than the eager bridge


@pytest.fixture(scope="module", params=list(tiny_models.ARCHITECTURES))
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


def tokens(b: int = 3, n: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 97, (b, n), generator=torch.Generator().manual_seed(seed))


def padded(side: str, b: int = 3, n: int = 30) -> torch.Tensor:
    pad, j = torch.tensor([0, 4, 9])[:b, None], torch.arange(n)[None]
    return (j >= pad) if side == "left" else (j < n - pad)


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("side", ["none", "left", "right"])
@torch.no_grad()
def test_logits_equal_the_eager_bridge(model, side: str):
    x = tokens()
    keep = torch.ones_like(x, dtype=torch.bool) if side == "none" else padded(side)
    theirs = model.bridge(x, attention_mask=None if side == "none" else keep.long())
    ours = model(x, None if side == "none" else keep)
    close(ours[keep], theirs[keep])
    assert (ours[keep] - theirs.roll(1, -1)[keep]).abs().max() > 0.1, "logits must differ between tokens"


@torch.no_grad()
def test_logits_equal_hugging_face(model):
    """Not only the bridge, which computes attention itself: learned sinks, windows and experts as Hugging Face has them."""
    x, keep = tokens(), padded("left")
    positions = (keep.cumsum(-1) - 1).clamp_min(0)
    theirs = tiny_models.hugging_face(model.label)(x, attention_mask=keep.long(), position_ids=positions).logits
    close(model(x, keep)[keep], theirs[keep])


@torch.no_grad()
def test_hooks_fire_and_edit(model):
    x = tokens()
    names = [f"blocks.1.attn.hook_{p}" for p in "qkvz"] + ["blocks.1.hook_out"]
    plain = model.bridge(x)
    for name in names:

        def edit(t, hook):
            t = t.clone()
            t[:, 3:9] = t[:, 3:9].flip(-1)  # a mere scale is undone by q and k norms
            return t

        theirs = model.bridge.run_with_hooks(x, fwd_hooks=[(name, edit)])
        with model.bridge.hooks(fwd_hooks=[(name, edit)]):
            ours = model(x)
        close(ours, theirs)
        assert (theirs - plain).abs().max() > 1e-3 * plain.abs().max(), f"{name} did nothing"


@torch.no_grad()
def test_a_pattern_hook_takes_its_layer_the_eager_way(model):
    x, seen = tokens(), []

    def halve(p, hook):
        seen.append(p.shape)
        return p * 0.5

    hooks = [("blocks.1.attn.hook_pattern", halve)]
    theirs = model.bridge.run_with_hooks(x, fwd_hooks=hooks)
    with model.bridge.hooks(fwd_hooks=hooks):
        ours = model(x)
    close(ours, theirs)
    assert seen == [(3, 8, 30, 30)] * 2


@pytest.mark.parametrize("at", ["both", "prefill", "decode"])
@pytest.mark.parametrize("kind", ["zero", "scale", "uniform", "window", "mean", "resample"])
@torch.no_grad()
def test_teacher_forced_equals_prefill_and_cached_decode(model, at: str, kind: str):
    heads, x = [(0, 1), (1, 3), (1, 6), (2, 0)], tokens(2, 24)
    edit = {
        "zero": lambda: mask(heads, at=at),
        "scale": lambda: scale(heads, 1.7, at=at),
        "uniform": lambda: mask(heads, "uniform", at=at),
        "window": lambda: window(heads, 2, 5, at=at),
        "mean": lambda: mask(heads, "mean", at=at, source=reference(model, tokens(4, 20, 9))),
        "resample": lambda: mask(heads, "resample", at=at, source=reference(model, tokens(4, 20, 9), "resample")),
    }[kind]()
    whole = model.forward(x, edits=edit, decode_from=[15]).logits
    step = model.forward(x[:, :16], edits=edit, decode_from=[15], use_cache=True)
    parts, cache = [step.logits], step.cache
    for i in range(16, 24):
        step = model.forward(x[:, i : i + 1], edits=edit, decode_from=[15], cache=cache)
        parts.append(step.logits)
    close(torch.cat(parts, 1), whole, 2e-5)  # one query at a time sums in another order
    assert (whole - model(x)).abs().max() > 1e-3 * whole.abs().max(), "the edit did nothing"


@torch.no_grad()
def test_a_pattern_hook_sees_the_cached_past(model):
    x, seen = tokens(2, 20), []

    def halve(p, hook):
        seen.append(p.shape[2:])
        return p * 0.5

    with model.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", halve)]):
        whole = model(x)
        step = model.forward(x[:, :16], use_cache=True)
        parts, cache = [step.logits], step.cache
        for i in range(16, 20):
            parts.append(model.forward(x[:, i : i + 1], cache=cache).logits)
    close(torch.cat(parts, 1), whole, 2e-5)
    assert [q for q, _ in seen] == [20, 16, 1, 1, 1, 1]


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_cached_decoding_of_padded_rows(model, side: str):
    """Right-padded rows go on behind their padding: a hole in the mask."""
    x, edit = tokens(3, 24), mask([(0, 1), (1, 3)]) + scale([(2, 5)], 1.7)
    keep = torch.ones(3, 24, dtype=torch.bool)
    keep[:, :16] = padded(side, n=16)
    whole = model.forward(x, keep, edits=edit, decode_from=[15]).logits
    step = model.forward(x[:, :16], keep[:, :16], edits=edit, decode_from=[15], use_cache=True)
    parts, cache = [step.logits], step.cache
    for i in range(16, 24):
        parts.append(model.forward(x[:, i : i + 1], keep[:, : i + 1], edits=edit, decode_from=[15], cache=cache).logits)
    ours, theirs = torch.cat(parts, 1)[keep], model.bridge(x, attention_mask=keep.long())[keep]
    close(ours, whole[keep], 2e-5)
    close(model(x, keep)[keep], theirs)
    assert (ours - theirs).abs().max() > 1e-3 * theirs.abs().max(), "the edit did nothing"


@torch.no_grad()
def test_the_cache_goes_by_the_name_transformers_gives_it(llama):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        llama.generate(tokens(1, 12), max_new_tokens=3)


@torch.no_grad()
def test_each_batch_row_carries_its_own_edit(model):
    x = tokens(1).expand(4, -1)
    edits = [mask([(0, 2)]), mask([(1, 5), (2, 1)], "uniform"), window([(1, 0)], 1, 3), scale([(2, 7)], 3.0)]
    with wb.intervene(model, edits):
        together = model(x)
    for i, edit in enumerate(edits):
        with wb.intervene(model, edit):
            close(together[i : i + 1], model(x[:1]))
    assert (together[0] - together[1]).abs().max() > 1e-3


@torch.no_grad()
def test_masking_equals_a_hook_on_z(model):
    x, heads = tokens(), [(0, 1), (0, 4), (2, 3)]

    def zero(layer):
        def hook(z, hook):
            z = z.clone()
            z[:, :, [h for at, h in heads if at == layer]] = 0
            return z

        return f"blocks.{layer}.attn.hook_z", hook

    theirs = model.bridge.run_with_hooks(x, fwd_hooks=[zero(0), zero(2)])
    with wb.intervene(model, mask(heads)):
        close(model(x), theirs)


@torch.no_grad()
def test_left_padding_changes_nothing_under_edits(model):
    x, pad = tokens(1, 20), 7
    edit = mask([(0, 1)], "uniform") + window([(1, 2), (2, 5)], 2, 4) + scale([(1, 3)], 0.2)
    alone = model.forward(x, edits=edit).logits
    row = torch.cat([torch.zeros(1, pad, dtype=torch.long), x], 1)
    both = torch.cat([row, tokens(1, 27, 5)])
    keep = torch.ones_like(both, dtype=torch.bool)
    keep[0, :pad] = False
    close(model.forward(both, keep, edits=edit).logits[:1, pad:], alone, 2e-5)


@torch.no_grad()
def test_edits_hold_on_a_layer_with_a_pattern_hook(model):
    x = tokens()
    edit = mask([(1, 1)], "uniform") + window([(1, 2)], 2, 4) + scale([(1, 3)], 0.2)
    fused = model.forward(x, edits=edit).logits
    with model.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", lambda p, hook: p)]):
        close(model.forward(x, edits=edit).logits, fused, 2e-5)


@torch.no_grad()
def test_resuming_equals_the_whole_forward(model):
    x = tokens()
    whole = model(x)
    for layer in range(model.n_layers):
        close(model.forward_from(layer, model.resid_pre(layer, x)).logits, whole)


@pytest.mark.parametrize("side", ["none", "left", "right"])
@torch.no_grad()
def test_the_stream_goes_on_from_a_layer_below(model, side: str):
    x, keep = tokens(), torch.ones(3, 30, dtype=torch.bool) if side == "none" else padded(side)
    mask_or_none = None if side == "none" else keep
    with wb.intervene(model, scale([(1, 3)], 0.2) + scale([(0, 2)], 3.0, at="decode")):
        first = model.resid_pre(1, x, mask_or_none, decode_from=[20])
        ran: list[int] = []
        with model.bridge.hooks(
            fwd_hooks=[(f"blocks.{i}.attn.hook_z", lambda z, hook: ran.append(hook.layer())) for i in range(2)]
        ):
            second = model.resid_pre(2, first, mask_or_none, decode_from=[20], from_layer=1)
        assert ran == [1]
        close(second[keep], model.resid_pre(2, x, mask_or_none, decode_from=[20])[keep], 1e-6)
        assert model.resid_pre(1, first, mask_or_none, from_layer=1) is first
    assert (second - first)[keep].abs().max() > 1e-3


def test_gradients_equal_the_eager_bridge(model):
    names = [f"blocks.1.attn.hook_{p}" for p in "qkvz"] + ["blocks.1.hook_in"]

    def gradients(run) -> list[torch.Tensor]:
        kept = {}

        def keep(t, hook):
            t = t.detach().requires_grad_() if not t.requires_grad else t
            t.retain_grad()
            kept[hook.name] = t
            return t

        with model.bridge.hooks(fwd_hooks=[(n, keep) for n in names]):
            run().square().mean().backward()
        return [kept[n].grad for n in sorted(kept)]

    x = tokens()
    theirs, ours = gradients(lambda: model.bridge(x)), gradients(lambda: model(x))
    assert len(ours) == len(theirs) == len(names)
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 1e-4)  # float32 backward of a softmax


@torch.no_grad()
def test_generation_equals_hugging_face(model):
    x = tokens(1, 12)
    theirs = tiny_models.hugging_face(model.label).generate(x, max_new_tokens=20, do_sample=False)[:, 12:]
    ours = model.generate(x, max_new_tokens=20)
    assert ours[0].tolist() == theirs[0].tolist()[: ours.shape[1]]
    bridges = model.bridge.original_model.generate(x, max_new_tokens=20, do_sample=False)[:, 12:]
    assert bridges.tolist() == theirs.tolist(), "outside the seam too"
    assert ours.shape[1] == 20 or int(ours[0, -1]) in model.stop_tokens


@torch.no_grad()
def test_nothing_is_left_behind(llama):
    x = tokens()
    before = llama.bridge(x)
    with pytest.raises(RuntimeError, match="mine"), llama.seam.on(Plan()):
        raise RuntimeError("mine")
    with wb.intervene(llama, mask([(0, 0)])):
        llama(x)
    assert torch.equal(llama.bridge(x), before)
    assert llama.bridge.blocks[0].attn.original_component.config._attn_implementation == "eager"
    assert "forward" not in llama.bridge.blocks[0].attn.__dict__


@torch.no_grad()
def test_statistics_equal_the_bridges_patterns(model):
    x, rows = tokens(), torch.tensor([[29, 7]] * 3)
    want = Reductions(rows=rows, top_k=2, spans=torch.tensor([[[3, 9]]] * 3), received=True)
    found = model.forward(x, reductions=lambda layer, m: want).statistics
    _, cache = model.bridge.run_with_cache(x, names_filter=lambda n: n.endswith("hook_pattern"))
    for layer in range(model.n_layers):
        p = cache[f"blocks.{layer}.attn.hook_pattern"]
        torch.testing.assert_close(found[layer].top_values, p[:, :, [29, 7]].topk(2, -1).values, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found[layer].mass[..., 0], p[:, :, [29, 7], 3:9].sum(-1), atol=2e-5, rtol=1e-4)


def test_errors_are_said(llama):
    x = tokens()
    with pytest.raises(BadInput, match="no head L9H0"), wb.intervene(llama, mask([(9, 0)])):
        llama(x)
    with pytest.raises(BadInput, match="2 interventions for 3"), wb.intervene(llama, [mask([(0, 0)])] * 2):
        llama(x)
    twice = window([(0, 0)], 2, 4) + window([(0, 0)], 2, 8)
    with pytest.raises(EditConflict, match="L0H0"), wb.intervene(llama, twice):
        llama(x)
    with (
        pytest.raises(TooLarge, match="GiB"),
        llama.seam.on(Plan(memory=1000)),
        llama.bridge.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", lambda p, hook: p)]),
    ):
        llama.bridge(x)


def test_a_sliding_window_is_a_number_and_what_only_resembles_it_stays_a_function():
    from transformers.masking_utils import and_masks, causal_mask_function, or_masks
    from transformers.masking_utils import sliding_window_causal_mask_function as sliding

    from workbench.masks import compact_mask

    def others(b, h, q, k):
        return (q < 2) & (k <= q)

    spec = compact_mask(2, 9, 9, mask_function=sliding(4), local_size=4).spec(1.0)
    assert spec.allowed is None and spec.sliding == 4 and spec.reach is None
    for function in (and_masks(sliding(4), others), or_masks(sliding(4), others), sliding(3), causal_mask_function):
        spec = compact_mask(2, 9, 9, mask_function=function, local_size=4).spec(1.0)
        assert spec.sliding is None
        rows = torch.arange(9)
        seen = function(0, 0, rows[:, None], rows[None])
        assert torch.equal(spec.visible(rows[None], slice(0, 9), 2)[0, 0], seen)


def test_generating_nothing_is_refused_in_one_line(tmp_path):
    model = wb.load(tiny_models.save("llama", tmp_path))
    with pytest.raises(BadInput, match="max_new_tokens=0: give at least 1"):
        model.generate(torch.tensor([[1, 5, 6]]), 0)
