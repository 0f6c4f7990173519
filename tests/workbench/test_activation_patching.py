"""Activation patching, its first-order estimates and direct logit attribution against the plain bridge."""

from __future__ import annotations

import pytest
import torch
from plain_patching import KINDS, Plain, exact_model, prompts
from plain_patching import LEFT as MASK

import workbench as wb
from workbench.errors import BadInput, TooLarge, Unsupported

POINTS = {"heads": "attn.hook_z", "mlps": "hook_mlp_out", "resid_pre": "hook_resid_pre"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {kind: exact_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def plains(models):
    clean, corrupted, answers = prompts()
    return {
        kind: (Plain(model, clean, corrupted, answers, MASK), Plain(model, corrupted, clean, answers, MASK))
        for kind, model in models.items()
    }


def columns(at) -> torch.Tensor:
    return MASK if at is None else torch.nn.functional.one_hot(torch.tensor(at), 11).bool()


def by_point(of: str, layers: int, measure) -> torch.Tensor:
    """measure(hook name, head) for every part, [batch, layers, heads] or [batch, layers]."""
    parts = [
        torch.stack([measure(f"blocks.{i}.{POINTS[of]}", h) for h in (range(8) if of == "heads" else [None])], -1)
        for i in range(layers)
    ]
    whole = torch.stack(parts, 1)
    return whole if of == "heads" else whole[..., 0]


@pytest.mark.parametrize(
    ("of", "at"), [("heads", None), ("heads", [6, 4, 10]), ("mlps", None), ("resid_pre", [6, 6, 2])]
)
@pytest.mark.parametrize("kind", KINDS)
def test_activations_have_the_effects_of_hooks(kind, of, at, models, plains):
    for plain, direction in zip(plains[kind], ("noising", "denoising"), strict=True):
        ours = wb.patching.activation_effects(models[kind], *prompts(), direction, of, at, MASK)
        where = columns(at)
        want = by_point(of, 3, lambda name, head, p=plain, w=where: p.patched(name, w, head) - p.base)
        torch.testing.assert_close(ours, want, rtol=0, atol=1e-10)
        assert ours.abs().max() > 1e-3


def test_patching_the_whole_entry_is_the_other_run(models, plains):
    noising, denoising = (
        wb.patching.activation_effects(models["llama"], *prompts(), direction, "resid_pre", attention_mask=MASK)[:, 0]
        for direction in ("noising", "denoising")
    )
    gap = plains["llama"][1].base - plains["llama"][0].base
    torch.testing.assert_close(noising, gap, rtol=0, atol=1e-10)
    torch.testing.assert_close(denoising, -gap, rtol=0, atol=1e-10)


def test_the_chunk_of_patches_changes_nothing(models):
    whole = wb.patching.activation_effects(models["gemma2"], *prompts(), attention_mask=MASK)
    part = wb.patching.activation_effects(models["gemma2"], *prompts(), attention_mask=MASK, memory=400_000)
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-12)
    with pytest.raises(TooLarge, match="raise memory="):
        wb.patching.activation_effects(models["gemma2"], *prompts(), memory=1000)


@pytest.mark.parametrize(("of", "at"), [("heads", None), ("heads", [6, 4, 10]), ("mlps", None)])
@pytest.mark.parametrize("kind", KINDS)
def test_attribution_is_the_slope_of_patching(kind, of, at, models, plains):
    """Central differences of a small part of the patch, on the plain bridge in float64."""
    plain, small = plains[kind][0], 1e-5

    def slope(name, head):
        up, down = (plain.patched(name, columns(at), head, sign * small) for sign in (1, -1))
        return (up - down) / (2 * small)

    ours = wb.patching.attribution_effects(models[kind], *prompts(), of, at=at, attention_mask=MASK)
    torch.testing.assert_close(ours, by_point(of, 3, slope), rtol=1e-5, atol=1e-6)
    true = wb.patching.activation_effects(models[kind], *prompts(), "noising", of, at, MASK)
    assert (ours - true).abs().max() > 1e-2  # an estimate: these tiny models are far from linear


@pytest.mark.parametrize("kind", KINDS)
def test_integrated_gradients_are_complete_and_one_step_is_the_other_run(kind, models, plains):
    clean, corrupted, answers = prompts()
    gap = plains[kind][1].base - plains[kind][0].base
    error = []
    for steps in (16, 128):
        entry = wb.patching.attribution_effects(
            models[kind], clean, corrupted, answers, "resid_pre", steps, attention_mask=MASK
        )[:, 0]  # fmt: skip
        error.append((entry - gap).abs().max())
    assert error[1] < 0.2 and error[1] < error[0] / 4  # the sum over inputs of the integral is the gap
    one = wb.patching.attribution_effects(models[kind], clean, corrupted, answers, steps=1)
    swapped = wb.patching.attribution_effects(models[kind], corrupted, clean, answers)
    torch.testing.assert_close(one, -swapped, rtol=0, atol=1e-12)


def test_transformer_lens_says_the_same_of_one_pair(models):
    from transformer_lens.tools.analysis.attribution_patching import attribution_patch

    clean, corrupted, answers = (x[:1] for x in prompts())
    first, foil = answers[0].tolist()
    model = models["gpt2"]
    entry = model.bridge.original_model.transformer.wte.weight.requires_grad_(True)  # theirs wants a weight to learn
    theirs = attribution_patch(model.bridge, corrupted, clean, lambda out: out[0, -1, first] - out[0, -1, foil])
    entry.requires_grad_(False)
    ours = wb.patching.attribution_effects(model, clean, corrupted, answers)[0]
    want = torch.zeros_like(ours)
    for node, score in theirs.node_scores.items():
        if node.kind == "attn_head_out":
            want[node.layer, node.head] += score
    torch.testing.assert_close(ours, want, rtol=0, atol=1e-9)
    assert want.abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_direct_shares_add_up_to_the_logit_difference(kind, models, plains):
    clean, _, answers = prompts()
    found = wb.patching.direct_logits(models[kind], clean, answers, MASK)
    whole = found.heads.sum((1, 2)) + found.mlps.sum(1) + found.embeddings + found.rest
    torch.testing.assert_close(whole, found.total, rtol=0, atol=1e-10)
    if kind != "gemma2":  # its logits are capped behind the sum
        torch.testing.assert_close(found.total, plains[kind][0].base, rtol=0, atol=1e-10)
    assert not any(point.has_hooks() for point in models[kind].bridge.hook_dict.values())


def test_a_heads_direct_share_by_hand(models, plains):
    clean, _, answers = prompts()
    model, plain = models["gpt2"], plains["gpt2"][0]
    found, hf = wb.patching.direct_logits(model, clean, answers, MASK), model.bridge.original_model
    seen = {}
    with model.bridge.hooks(fwd_hooks=[("ln_final.hook_in", lambda x, hook: seen.update(x=x[:, -1]))]):
        model.bridge(clean, attention_mask=MASK.long())
    spread = (seen["x"].var(-1, unbiased=False) + model.config.layer_norm_epsilon).sqrt()
    direction = hf.lm_head.weight[answers[:, 0]] - hf.lm_head.weight[answers[:, 1]]
    for layer, head in ((0, 3), (2, 7)):
        z = plain.cache[f"blocks.{layer}.attn.hook_z"][:, -1, head]
        write = z @ model.bridge.blocks[layer].attn.o.original_component.weight[4 * head : 4 * head + 4]
        share = ((write - write.mean(-1, keepdim=True)) / spread[:, None] * hf.transformer.ln_f.weight * direction).sum(
            -1
        )
        torch.testing.assert_close(found.heads[:, layer, head], share, rtol=0, atol=1e-10)


def test_bad_input_is_one_line(models):
    model, pair = models["gpt2"], prompts()
    with pytest.raises(BadInput, match="noising or denoising"):
        wb.patching.activation_effects(model, *pair, "backwards")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="heads, mlps, resid_pre"):
        wb.patching.attribution_effects(model, *pair, "neurons")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="0 or more steps"):
        wb.patching.attribution_effects(model, *pair, steps=-1)
    with wb.intervene(model, wb.mask([(0, 0)])), pytest.raises(Unsupported, match="outside `intervene`"):
        wb.patching.direct_logits(model, pair[0], pair[2])
