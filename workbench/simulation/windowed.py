"""Streaming heads while the prompt is read: a block of rows against the sinks and the keys of its windows."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.errors import Unsupported
from workbench.policies.scheme import Streams

ROWS = 128
"""Queries in a block."""
STATIC = ("default", "linear", "llama3")
"""Scalings with the same frequencies at every length: turning by them is exact."""


@dataclass(frozen=True, eq=False)
class Rotary:
    """A model's rotary embedding, plain and over the whole head: turning by a distance moves a key or a query."""

    inverse: Float[Tensor, " half"]

    @classmethod
    def of(cls, model: Any) -> Rotary:
        """Raises Unsupported where positions are no plain rotation of the whole head in every layer."""
        modules = model.bridge.original_model.modules()
        found = [
            m for m in modules if getattr(m, "inv_freq", None) is not None
        ]  # the bridge's, and the one that it holds
        if not found or not all(_plain(m, model) for m in found):
            kind = getattr(model.config, "model_type", "this architecture")
            raise Unsupported(
                f"{model.name}: positions in the cache need plain rotary embeddings of the whole head in every layer, "
                f"which {kind} does not have here"
            )
        return cls(found[0].inv_freq)

    def turn(self, x: Float[Tensor, "*rows d"], by: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows d"]:
        """As if x stood `by` positions later."""
        angle = by[..., None].double() * self.inverse.double()
        cos, sin = (f(torch.cat([angle, angle], -1)).to(x.dtype) for f in (torch.cos, torch.sin))
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin


def _plain(found: Any, model: Any) -> bool:
    """Whether every layer turns the whole of a head, its first half against its second, by the same frequencies."""
    cfg, head_dim = model.bridge.cfg, getattr(model.config, "head_dim", None) or model.bridge.cfg.d_head
    static = getattr(found, "rope_type", "default") in STATIC and getattr(found, "attention_scaling", 1.0) == 1.0
    pairs = getattr(cfg, "rotary_interleaved_cos_sin", False) or getattr(cfg, "rotary_adjacent_pairs", False)
    missing = 0 in (getattr(model.config, "no_rope_layers", None) or ())
    return static and 2 * len(found.inv_freq) == head_dim and not pairs and not missing and _halves(found)


def _halves(found: Any) -> bool:
    """Whether the file that the model is from turns (a, b) to (−b, a), where it says so: others turn pairs, or back."""
    turn = getattr(sys.modules[type(found).__module__], "rotate_half", None)
    return turn is None or turn(torch.arange(4.0)).tolist() == [-2.0, -3.0, 0.0, 1.0]


def windowed(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b g n d"], v: Float[Tensor, "b g n d"], scale: float,
    streams: Streams, rotary: Rotary | None = None,
) -> tuple[Float[Tensor, "b h n d"], Int[Tensor, " n"]]:  # fmt: skip
    """Outputs of heads that see the sinks and, from `streams.low` of each row on, every key up to their own.

    With them the number of keys that each row sees. rotary: with it sinks stand right before the window, as positions
    inside the cache have it.
    """
    out, counts = [], []
    for start in range(0, q.shape[2], ROWS):
        rows = torch.arange(start, min(q.shape[2], start + ROWS), device=q.device)
        low = streams.low(rows)
        sinks = torch.arange(min(streams.sink, int(low[0])), device=q.device)  # later ones lie in the slice
        keys = torch.cat([sinks, torch.arange(int(low[0]), int(rows[-1]) + 1, device=q.device)])
        seen = (keys <= rows[:, None]) & ((keys >= low[:, None]) | (keys < streams.sink))
        counts.append(seen.sum(-1))
        part, some, told = q[:, :, rows], k[:, :, keys], v[:, :, keys]
        if rotary is not None:
            turned = rotary.turn(part, -(rows + 1 - counts[-1]))
            near = (keys < streams.sink)[:, None]
            part = torch.cat([part, turned], -1)  # each key meets one half of it
            some = torch.cat([some.masked_fill(near, 0.0), some.masked_fill(~near, 0.0)], -1)
            told = F.pad(told, (0, told.shape[-1]))  # fused attention wants values as wide as keys
        out.append(_attend(part, some, told, seen, scale)[..., : v.shape[-1]])
    return torch.cat(out, 2), torch.cat(counts)


def _attend(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b g m d"], v: Float[Tensor, "b g m d"], seen: Bool[Tensor, "n m"],
    scale: float,
) -> Float[Tensor, "b h n d"]:  # fmt: skip
    """The heads of a group as so many queries of one head: its keys are not repeated."""
    (b, h, n, d), g = q.shape, k.shape[1]
    z = F.scaled_dot_product_attention(
        q.reshape(b, g, h // g * n, d), k, v, attn_mask=seen.repeat(h // g, 1), scale=scale
    )
    return z.view(b, h, n, -1)


def grouped(q: Float[Tensor, "b h n d"], k: Float[Tensor, "b g m d"]) -> Float[Tensor, "b h n m"]:
    """Products in float32 at least, the keys of a group not repeated."""
    b, h, n, d = q.shape
    g = k.shape[1]
    scores = q.reshape(b, g, h // g * n, d) @ k.mT
    return scores.to(torch.promote_types(scores.dtype, torch.float32)).view(b, h, n, -1)
