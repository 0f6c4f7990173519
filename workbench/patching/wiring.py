"""How one decoder block writes to the residual stream, said with the bridge's own norms, projections and MLP.

Pre-norm, post-norm, parallel and scaled blocks are one formula with parts that may be missing. Whether it is the right
one for a model is never assumed: `check` compares it with what the model itself computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge.generalized_components.block import ParallelBlockBridge

from workbench.errors import Unsupported
from workbench.offloading import refuse_offloaded


@dataclass(frozen=True)
class Wiring:
    """One block. parallel: attention and MLP read the same stream. scale: of what both write (Granite)."""

    layer: int
    block: Any
    parallel: bool
    scale: float

    def attention_input(self, resid_pre: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """What the projections of q, k and v read."""
        return self._part("ln1", resid_pre)

    def attention_write(self, z: Float[Tensor, "*b h e"]) -> Float[Tensor, "*b d"]:
        """What all heads together write to the stream."""
        return self.from_heads(self.block.attn.o(z.flatten(-2)))

    def from_heads(self, out: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """What the attention layer writes when its output projection, bias included, gives `out`."""
        return self._part("ln1_post", out) * self.scale

    def mlp_write(self, resid: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """What the MLP writes when the stream is `resid`: behind attention, or before it in a parallel block."""
        shared = self.parallel and "ln2" not in self.block.submodules  # one norm for both (GPT-J)
        rows = resid.reshape(1, -1, resid.shape[-1])  # experts count on [batch, seq, d]
        out = self.block.mlp(self._part("ln1" if shared else "ln2", rows))
        out = self._part("ln2_post", out[0] if isinstance(out, tuple) else out)
        return out.view(resid.shape) * self.scale

    def head_deltas(
        self, z: Float[Tensor, "b h e"], other: Float[Tensor, "b h e"], heads: slice
    ) -> Float[Tensor, "h b d"]:
        """What changes in the layer's write when one head's output is the other's, for each of some heads by itself."""
        parts = torch.einsum("bhe,hed->hbd", (other - z)[:, heads], self.projection(z)[heads])
        if "ln1_post" not in self.block.submodules:
            return parts * self.scale
        whole = self.block.attn.o(z.flatten(-2))
        return self.from_heads(whole + parts) - self.from_heads(whole)

    def projection(self, z: Float[Tensor, "b h e"]) -> Float[Tensor, "h e d"]:
        """W_O by head."""
        module = self.block.attn.o.original_component
        weight = module.weight.mT if isinstance(module, torch.nn.Linear) else module.weight
        if weight.dim() != 2 or weight.shape[0] != z.shape[-2] * z.shape[-1]:
            raise Unsupported(f"layer {self.layer}: the output projection is no sum over its heads")
        return weight.unflatten(0, (z.shape[-2], -1))

    def _part(self, name: str, x: Tensor) -> Tensor:
        return getattr(self.block, name)(x) if name in self.block.submodules else x


def wirings(model: Any) -> list[Wiring]:
    """All blocks of a model. Raises Unsupported for one without softmax attention or an MLP, or with weights elsewhere."""
    refuse_offloaded(model, "path patching")
    out = []
    for layer, block in enumerate(model.bridge.blocks):
        if not {"attn", "mlp"} <= set(block.submodules) or layer not in model.seam.layers:
            raise Unsupported(
                f"layer {layer} has {', '.join(block.submodules)}: path patching needs attention and an MLP"
            )
        if block.mlp.name is None:
            raise Unsupported(
                f"layer {layer}: the parts of the MLP are no module of its own, so it cannot be run alone"
            )
        scale = float(getattr(block.original_component, "residual_multiplier", 1.0))
        out.append(Wiring(layer, block, isinstance(block, ParallelBlockBridge), scale))
    return out


def check(layer: int, said: Float[Tensor, "b d"], found: Float[Tensor, "b d"], before: Float[Tensor, "b d"]) -> None:
    """Raises Unsupported where the stream behind a block is not what its wiring says."""
    precise = torch.promote_types(said.dtype, torch.float32)
    write, eps = (found - before).to(precise), torch.finfo(said.dtype).eps
    near = max(64 * eps, 1e-5) * float(write.abs().max()) + 64 * eps * float(found.abs().max())
    off = float((said - found).to(precise).abs().max())
    if not off <= near:  # NaN is no agreement either
        raise Unsupported(
            f"layer {layer} writes to the residual stream in a way that path patching does not know (off by {off:.1e})"
        )
