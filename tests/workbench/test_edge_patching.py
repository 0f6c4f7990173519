"""Edge attribution patching against finite differences on the plain bridge, its own sums and TransformerLens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_patching import KINDS, Plain, exact_model, prompts
from plain_patching import LEFT as MASK

import workbench as wb
from workbench.errors import BadInput, TooLarge
from workbench.patching.norm_slopes import SHOWN, before_norm


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {kind: exact_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def change_of(plain: Plain, sender: tuple) -> torch.Tensor:
    """Corrupted minus clean write of a head or an MLP, zero on padding, [batch, columns, d]."""
    block = plain.bridge.blocks[sender[1]]
    if sender[0] == "mlp":
        name = f"blocks.{sender[1]}.hook_mlp_out"
        return (plain.other[name] - plain.cache[name]) * MASK[..., None]
    z, other = (run[f"blocks.{sender[1]}.attn.hook_z"] for run in (plain.cache, plain.other))
    replaced = z.clone()
    replaced[:, :, sender[2]] = other[:, :, sender[2]]
    old, new = (block.attn.o(x.flatten(-2)) for x in (z, replaced))
    if hasattr(block, "ln1_post"):
        old, new = block.ln1_post(old), block.ln1_post(new)
    return (new - old) * MASK[..., None]


def slope(plain: Plain, sender: tuple, receiver: tuple) -> torch.Tensor:
    """Central difference of the clean run when one head's q, k or v reads a stream with a little of the change."""
    channel, layer, head = receiver
    block, resid = plain.bridge.blocks[layer], plain.cache[f"blocks.{layer}.hook_resid_pre"]

    def difference(strength: float) -> torch.Tensor:
        read = getattr(block.attn, channel).original_component(block.ln1(resid + strength * change_of(plain, sender)))

        def put(x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            x[:, :, head] = read.view(x.shape)[:, :, head]
            return x

        return plain._difference({f"blocks.{layer}.attn.hook_{channel}": [put]}, 1)[0]

    return (difference(1e-5) - difference(-1e-5)) / 2e-5


@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_slopes(kind, models):
    clean, corrupted, answers = prompts()
    plain = Plain(models[kind], clean, corrupted, answers, MASK)
    found = wb.patching.edge_effects(models[kind], clean, corrupted, answers, 0, MASK)
    with torch.no_grad():
        for sender in (("head", 0, 3), ("head", 1, 6), ("mlp", 1)):
            for receiver in (("q", 2, 5), ("k", 2, 1), ("v", 2, 0)):
                ours = found.values[:, found.senders.index(sender), found.receivers.index(receiver)]
                torch.testing.assert_close(ours, slope(plain, sender, receiver), rtol=1e-5, atol=1e-7)
                assert ours.abs().max() > 1e-4


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_senders_edges_add_up_to_it(kind, steps, models):
    found = wb.patching.edge_effects(models[kind], *prompts(), steps, MASK)
    sums = found.values.nansum(-1)
    words: dict[Any, str] = {"heads": "head", "mlps": "mlp", "resid_pre": "embeddings"}
    for of, word in words.items():
        if (kind, of) == ("gemma2", "heads"):
            continue  # behind a norm a head's write is no share of a sum
        whole = wb.patching.attribution_effects(models[kind], *prompts(), of, steps, attention_mask=MASK)
        whole = whole[:, :1] if of == "resid_pre" else whole
        index = [i for i, sender in enumerate(found.senders) if sender[0] == word]
        torch.testing.assert_close(sums[:, index], whole.flatten(1), rtol=0, atol=1e-10)


def test_only_edges_that_exist_have_a_value(models):
    for kind, reaches in (("llama", True), ("gpt_neox", False)):
        found = wb.patching.edge_effects(models[kind], *prompts(), 0)
        there = ~found.values.isnan().all(0)
        assert not found.values[:, there].isnan().any()
        at = {place: i for i, place in enumerate(found.senders)}, {place: i for i, place in enumerate(found.receivers)}
        assert there[at[0]["head", 1, 0], at[1]["q", 2, 0]] and not there[at[0]["head", 1, 0], at[1]["q", 1, 0]]
        assert bool(there[at[0]["head", 1, 0], at[1]["mlp", 1]]) is reaches  # not in a parallel block
        assert (
            there[
                at[0][
                    "mlp",
                    2,
                ],
                at[1]["logits",],
            ]
            and there[0].all()
        )


def test_rows_at_a_time_change_nothing(models):
    whole = wb.patching.edge_effects(models["llama"], *prompts(), 2, MASK).values
    part = wb.patching.edge_effects(models["llama"], *prompts(), 2, MASK, memory=700_000).values
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-12, equal_nan=True)
    with pytest.raises(TooLarge, match="raise memory="):
        wb.patching.edge_effects(models["llama"], *prompts(), 2, MASK, memory=1000)
    with pytest.raises(BadInput, match="0 or more"):
        wb.patching.edge_effects(models["llama"], *prompts(), -1)


def test_transformer_lens_says_the_same_of_one_pair(models):
    from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch

    clean, corrupted, answers = (x[:1] for x in prompts())
    first, foil = answers[0].tolist()
    model = models["gpt2"]
    entry = model.bridge.original_model.transformer.wte.weight.requires_grad_(True)  # theirs wants a weight to learn
    theirs = attribution_patch(
        model.bridge, corrupted, clean, lambda out: out[0, -1, first] - out[0, -1, foil],
        EdgeAttributionConfig(granularity="edge"),
    )  # fmt: skip
    entry.requires_grad_(False)
    found = wb.patching.edge_effects(model, clean, corrupted, answers, 0)
    want = torch.full_like(found.values[0], float("nan"))
    kinds = {"embed": "embeddings", "attn_head_out": "head", "mlp_out": "mlp", "mlp_in": "mlp"}
    kinds |= {"q_input": "q", "k_input": "k", "v_input": "v", "logits": "logits"}

    def place(node) -> tuple:
        name = kinds[node.kind]
        if name in ("embeddings", "logits"):
            return (name,)
        return (name, node.layer) if name == "mlp" else (name, node.layer, node.head)

    for (writer, reader), score in (theirs.edge_scores or {}).items():
        at = found.senders.index(place(writer)), found.receivers.index(place(reader))
        want[at] = score + want[at].nan_to_num()
    torch.testing.assert_close(found.values[0], want, rtol=0, atol=1e-9, equal_nan=True)
    assert want.nan_to_num().abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_gradients_before_a_norm_are_torchs(kind, known, models):
    """In closed form, and where the norm's parts do not give its output, by torch."""
    norm = models[kind].bridge.blocks[1].ln2
    resid = torch.randn(2, 5, 32, dtype=torch.float64) * 3 + 1
    shown: dict[str, torch.Tensor] = {"hook_in": resid}
    for name in SHOWN[1:]:
        getattr(norm, name).add_hook(lambda x, hook, name=name: shown.__setitem__(name, x.detach()))
    norm(resid)
    for name in SHOWN[1:]:
        getattr(norm, name).remove_hooks("fwd")
    if not known:
        shown["hook_scale"], shown["hook_normalized"] = shown["hook_scale"] * 2, shown["hook_normalized"] * 2
    slope = torch.randn(4, 2, 5, 32, dtype=torch.float64)
    many = resid.expand_as(slope).clone().requires_grad_()
    want = torch.autograd.grad(norm(many), many, slope)[0]
    torch.testing.assert_close(before_norm(norm, shown, slope), want, rtol=0, atol=1e-12)
