"""Direct logit attribution: what each part writes straight into the logit difference."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.patching.pair import Pair
from workbench.patching.readout import Readout
from workbench.patching.recording import record
from workbench.patching.wiring import Wiring, wirings


@dataclass(frozen=True)
class DirectLogits:
    """Shares of the logit difference before a soft-cap; they and `rest` (biases) add up to `total`."""

    heads: Float[Tensor, "b layers heads"]
    mlps: Float[Tensor, "b layers"]
    embeddings: Float[Tensor, " b"]
    rest: Float[Tensor, " b"]
    total: Float[Tensor, " b"]


@torch.no_grad()
def direct_logits(
    model: Any,
    tokens: Int[Tensor, "b n"],
    answers: Int[Tensor, "b 2"],
    attention_mask: Bool[Tensor, "b n"] | None = None,
) -> DirectLogits:
    """What heads, MLPs and embeddings write along answer − foil at the row's last token, as the final norm scales it.

    The scale of the norms is that of the run, so that the shares add up exactly (logit lens by part; Elhage et al. 2021).
    Raises BadInput and Unsupported like `path_effects`. TransformerLens' `direct_logit_attribution` wants weights
    folded in compatibility mode; this reads the model as it is.
    """
    from workbench.patching.chain import mlp_of

    pair = Pair.of(model, tokens, tokens, answers, attention_mask)
    run = record(pair.model, pair.clean, pair.attention_mask, pair.ends, pair.ends)
    readout, heads, mlps, biases = Readout(pair.model, pair.answers), [], [], []
    readout.check(run.final, run.logits)
    for wiring in wirings(pair.model):
        parts = head_writes(wiring, run.z[wiring.layer])
        heads.append(parts)
        mlps.append(mlp_of(wiring, run)[1])
        biases.append(wiring.attention_write(run.z[wiring.layer]) - parts.sum(0))
    read = _Linear(pair.model, readout, run.final)
    return DirectLogits(
        heads=torch.stack([read(one) for one in heads]).movedim(-1, 0),
        mlps=read(torch.stack(mlps)).T,
        embeddings=read(run.resid[0]),
        rest=read(torch.stack(biases)).sum(0) + read.constant,
        total=read(run.final) + read.constant,
    )


class HeldNorm:
    """The final norm as one run scaled it: linear in what is written to the stream, up to a constant."""

    def __init__(self, model: Any, resid: Float[Tensor, "b d"]) -> None:
        self.norm, self.scales = model.bridge.ln_final, []
        with _scale(self.norm, self.scales.append):
            self.norm(resid)
        self.zero = self._normed(torch.zeros_like(resid))

    def __call__(self, write: Float[Tensor, "*s b d"]) -> Float[Tensor, "*s b d"]:
        """What a write adds to what the unembedding reads."""
        return self._normed(write) - self.zero

    def _normed(self, write: Tensor) -> Tensor:
        with _scale(self.norm, lambda scale: self.scales[0].expand_as(scale)):
            return self.norm(write)


class _Linear:
    """The readout with the final norm's scale held."""

    def __init__(self, model: Any, readout: Readout, resid: Float[Tensor, "b d"]) -> None:
        self.norm = HeldNorm(model, resid)
        self.direction = (readout.weight[:, 0] - readout.weight[:, 1]) * readout.scale
        bias = readout.bias[:, 0] - readout.bias[:, 1] if isinstance(readout.bias, Tensor) else 0.0
        self.constant: Float[Tensor, " b"] = (self.norm.zero * self.direction).sum(-1) + bias * readout.scale

    def __call__(self, write: Float[Tensor, "*s b d"]) -> Float[Tensor, "*s b"]:
        return (self.norm(write) * self.direction).sum(-1)


def head_writes(wiring: Wiring, z: Float[Tensor, "b h e"]) -> Float[Tensor, "h b d"]:
    """What each head writes when its output is z; behind a post-norm, with the scale that all heads together give it."""
    parts = torch.einsum("bhe,hed->hbd", z, wiring.projection(z))
    if "ln1_post" not in wiring.block.submodules:
        return parts * wiring.scale
    norm, scales = wiring.block.ln1_post, []
    with _scale(norm, scales.append):
        norm(wiring.block.attn.o(z.flatten(-2)))
    with _scale(norm, lambda scale: scales[0].expand_as(scale)):
        return (norm(parts) - norm(torch.zeros_like(parts))) * wiring.scale


@contextlib.contextmanager
def _scale(norm: Any, function: Any) -> Iterator[None]:
    """Inside, a norm hands its scale to the function and goes on with what it gives back, if anything."""
    norm.hook_scale.add_hook(lambda scale, hook: function(scale))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*edited hook_scale.*")
            yield
    finally:
        norm.hook_scale.remove_hooks("fwd")
