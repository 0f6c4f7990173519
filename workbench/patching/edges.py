"""Edge attribution patching with integrated gradients: every edge's effect to first order, from a few gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from workbench.budget import in_parts
from workbench.errors import BadInput, Unsupported
from workbench.footprint import stream_bytes
from workbench.patching.attribution import ENTRY, each_step, gradient_bytes
from workbench.patching.norm_slopes import SHOWN, before_norm
from workbench.patching.pair import Pair
from workbench.patching.runs import activations
from workbench.patching.wiring import Wiring, wirings


@dataclass(frozen=True)
class EdgeEffects:
    """values: estimated change of the logit difference per edge; NaN where there is no edge.

    senders: ("embeddings",), ("head", layer, head), ("mlp", layer). receivers: ("q" | "k" | "v", layer, head), ("mlp",
    layer), ("logits",); k and v count key-value heads.
    """

    values: Float[Tensor, "b senders receivers"]
    senders: list[tuple[Any, ...]]
    receivers: list[tuple[Any, ...]]


def edge_effects(
    model: Any,
    clean: Int[Tensor, "b n"],
    corrupted: Int[Tensor, "b n"],
    answers: Int[Tensor, "b 2"],
    steps: int = 5,
    attention_mask: Bool[Tensor, "b n"] | None = None,
    memory: int | str | None = None,
) -> EdgeEffects:
    """(corrupted − clean write of the sender) · gradient of the difference at the receiver's input, over all columns.

    The input is the residual stream before the receiver's norm, for q, k and v of each head by itself. steps=0: EAP, the
    gradient of the clean run; steps=m: EAP-IG on inputs, averaged as in `attribution_effects` (Hanna et al. 2024,
    arXiv:2403.17806, who sum the clean − corrupted write against a loss: the same sign). Gradients are averaged before
    the product, which is linear in them, so that more steps cost forwards only.

    Raises TooLarge where one row needs more than `memory`, else as `attribution_effects`. TransformerLens' edges take no
    grouped-query attention, no post-norm, no padding and no steps.
    """
    if steps < 0:
        raise BadInput(f"steps={steps}: give 0 or more")
    pair = Pair.of(model, clean, corrupted, answers, attention_mask)
    blocks = wirings(pair.model)
    senders, receivers = senders_of(pair.model), receivers_of_edges(pair.model)
    each = 2 * (len(senders) + len(receivers)) * stream_bytes(pair.model, pair.clean.shape[1]) + gradient_bytes(pair)
    parts = in_parts(
        pair.model, "edge attribution", len(pair.clean), each, lambda rows: _edges(pair.part(rows), blocks, steps), memory
    )  # fmt: skip
    return EdgeEffects(torch.cat(parts), senders, receivers)


def senders_of(model: Any) -> list[tuple[Any, ...]]:
    """All writers in the order of the model."""
    out: list[tuple[Any, ...]] = [("embeddings",)]
    for layer in range(model.n_layers):
        out += [*(("head", layer, head) for head in range(model.n_heads)), ("mlp", layer)]
    return out


def receivers_of_edges(model: Any) -> list[tuple[Any, ...]]:
    """All readers in the order of the model."""
    out: list[tuple[Any, ...]] = []
    for layer in range(model.n_layers):
        for channel, heads in (("q", model.n_heads), ("k", model.n_kv_heads), ("v", model.n_kv_heads)):
            out += [(channel, layer, head) for head in range(heads)]
        out.append(("mlp", layer))
    return [*out, ("logits",)]


@dataclass(frozen=True)
class _Layer:
    """heads, mlp: what changes in what they write, zero on padding."""

    heads: Float[Tensor, "h b n d"]
    mlp: Float[Tensor, "1 b n d"]


def _edges(pair: Pair, blocks: list[Wiring], steps: int) -> Float[Tensor, "b senders receivers"]:
    names = [f"blocks.{i}.{part}" for i in range(len(blocks)) for part in ("hook_in", "attn.hook_z")]
    names.append(f"blocks.{len(blocks) - 1}.hook_out")
    with torch.no_grad():
        clean, corrupted = (
            activations(pair.model, x, pair.attention_mask, names) for x in (pair.clean, pair.corrupted)
        )
        layers = [_changes(wiring, clean, corrupted, pair.text) for wiring in blocks]
    entry = (corrupted[ENTRY] - clean[ENTRY]) * pair.text[..., None]
    inputs = _input_slopes(pair, blocks, clean[ENTRY], corrupted[ENTRY], steps)
    written, out = [entry[None]], []
    for wiring, layer in zip(blocks, layers, strict=True):
        out.append(_products(written, inputs[wiring.layer, "attention"]))
        reaching = written if wiring.parallel else [*written, layer.heads]
        out.append(_products(reaching, inputs[wiring.layer, "mlp"]))
        written += [layer.heads, layer.mlp]
    out.append(_products(written, inputs[len(blocks), "logits"]))
    senders = out[-1].shape[1]
    return torch.cat([pad(one, (0, 0, 0, senders - one.shape[1]), value=float("nan")) for one in out], -1)


def _products(writes: list[Float[Tensor, "_ b n d"]], slopes: Float[Tensor, "v b n d"]) -> Float[Tensor, "b u v"]:
    """Every sender's change times every receiver's slope, summed over columns and dimensions."""
    flat = slopes.flatten(2).permute(1, 2, 0)
    return torch.cat([write.flatten(2).transpose(0, 1) @ flat for write in writes], 1)


def _changes(
    wiring: Wiring, clean: dict[str, Tensor], corrupted: dict[str, Tensor], text: Bool[Tensor, "b n"]
) -> _Layer:
    """Corrupted minus clean writes of a layer; of one head the others' are clean, where a norm follows them all."""
    z, other = (run[f"blocks.{wiring.layer}.attn.hook_z"].flatten(0, 1) for run in (clean, corrupted))
    heads = wiring.head_deltas(z, other, slice(None)).unflatten(1, text.shape)
    after = f"blocks.{wiring.layer + 1}.hook_in"
    after = after if after in clean else f"blocks.{wiring.layer}.hook_out"
    mlp = [
        run[after]
        - run[f"blocks.{wiring.layer}.hook_in"]
        - wiring.attention_write(run[f"blocks.{wiring.layer}.attn.hook_z"])
        for run in (clean, corrupted)
    ]
    return _Layer(heads * text[..., None], ((mlp[1] - mlp[0]) * text[..., None])[None])


def _input_slopes(
    pair: Pair, blocks: list[Wiring], clean: Float[Tensor, "b n d"], corrupted: Float[Tensor, "b n d"], steps: int
) -> dict[tuple[int, str], Float[Tensor, "v b n d"]]:
    """Mean gradients at the stream that each receiver reads, by layer: q, k and v heads, the MLP, behind all the logits."""
    last, read = f"blocks.{len(blocks) - 1}.hook_out", [norms_of(w) for w in blocks]
    wanted = [
        f"blocks.{w.layer}.{p}" for w in blocks for p in ("attn.hook_q", "attn.hook_k", "attn.hook_v", "mlp.hook_in")
    ]
    norms = [f"blocks.{w.layer}.{norm}" for w, both in zip(blocks, read, strict=True) for norm in both if norm]
    shown = [f"{norm}.{part}" for norm in dict.fromkeys(norms) for part in SHOWN]
    total: dict[tuple[int, str], Tensor] = {}

    def add(key: tuple[int, str], slope: Tensor, weight: float) -> None:
        total[key] = slope * weight + total.get(key, 0.0)

    for seen, slopes, weight in each_step(pair, clean, corrupted, [*wanted, last], shown, steps):
        for wiring, (attention, mlp) in zip(blocks, read, strict=True):
            at = f"blocks.{wiring.layer}."
            parts = [_through(wiring, channel, slopes[f"{at}attn.hook_{channel}"]) for channel in "qkv"]
            add((wiring.layer, "attention"), _before(wiring, attention, seen, torch.cat(parts)), weight)
            add((wiring.layer, "mlp"), _before(wiring, mlp, seen, slopes[f"{at}mlp.hook_in"][None]), weight)
        add((len(blocks), "logits"), slopes[last][None], weight)
    return total


def norms_of(wiring: Wiring) -> tuple[str | None, str | None]:
    """The norms through which attention and the MLP read the stream, if any."""
    has = wiring.block.submodules
    attention = "ln1" if "ln1" in has else None
    return attention, "ln2" if "ln2" in has else attention if wiring.parallel else None


def _through(wiring: Wiring, channel: str, slope: Float[Tensor, "b n h e"]) -> Float[Tensor, "h b n d"]:
    """A gradient at a projection's output, taken to its input, head by head."""
    module = getattr(wiring.block.attn, channel).original_component
    if not isinstance(module, torch.nn.Linear) or module.weight.shape[0] != slope.shape[2] * slope.shape[3]:
        raise Unsupported(f"layer {wiring.layer}: the projection of {channel} is no plain matrix of its heads")
    return torch.einsum("bnhe,hed->hbnd", slope, module.weight.unflatten(0, slope.shape[2:]))


def _before(wiring: Wiring, norm: str | None, seen: dict[str, Tensor], slope: Float[Tensor, "v b n d"]) -> Tensor:
    """A gradient behind a norm, taken to the stream before it."""
    if norm is None:
        return slope
    shown = {part: seen[f"blocks.{wiring.layer}.{norm}.{part}"] for part in SHOWN}
    return before_norm(getattr(wiring.block, norm), shown, slope)
