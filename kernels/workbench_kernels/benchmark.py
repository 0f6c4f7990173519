"""What attention with statistics or edits costs against plain SDPA and against an eager pattern, as a table of ratios.

Attention of 4 layers × 8 heads × 64, GQA 4:1, with q, k, v strided as a model gives them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench_kernels import AttentionSpec, HeadEdits, Reductions, attend
from workbench_kernels.timing import LEAST, paired

LAYERS, HEADS, KV, DIM = 4, 8, 2, 64
ROWS, SPANS = 64, 8
AMPLIFIED = 576
"""Keys of an image of LLaVA."""
Layers = list[tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Work:
    """A row of the table. target: at most so many times the peer's cost, or for eager so many times faster."""

    name: str
    peer: str
    target: float | None
    reductions: Reductions | None = None
    edits: HeadEdits | None = None


def inputs(n: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Layers:
    """q, k, v of each layer, transposed views as attention modules hold them."""
    draw = torch.Generator().manual_seed(n)

    def one(heads: int) -> Tensor:
        return torch.randn(1, n, heads, DIM, generator=draw).to(device, dtype).transpose(1, 2)

    return [(one(HEADS), one(KV), one(KV)) for _ in range(LAYERS)]


def works(n: int, more: bool = False) -> list[Work]:
    """Every row of the table at a length; more: the edits that have no goal, too."""
    rows = torch.arange(n - ROWS, n)[None]
    spans = torch.tensor([[[i * n // 10, i * n // 10 + n // 40] for i in range(SPANS)]])
    three = Reductions(received=True, rows=rows, top_k=8, spans=spans)
    everything = Reductions(
        lse=True, received=True, entropy=True, distance=True, thumbnail=64, norms=True, rows=rows, top_k=8, spans=spans
    )
    every, one = torch.ones(1, HEADS, dtype=torch.bool), torch.zeros(1, HEADS, dtype=torch.bool)
    one[0, 3] = True
    sinks, image = [5, 99, 700, n - 500], list(range(40, 40 + AMPLIFIED))
    rest = [
        Work("window of 256 and 4 sinks", "sdpa", None, edits=HeadEdits(window=torch.full((1, HEADS), 256))),
        Work("suppress all but 576 keys", "sdpa", None, edits=_suppress(n, every)),
        Work("PAI on 576 keys", "sdpa", None, edits=_boost(n, image)),
    ]
    return [
        Work("received, 64 rows, masses", "eager", 5.0 if n >= 8192 else None, three),
        Work("received", "sdpa", 1.5, Reductions(received=True)),
        Work("top 8 of 64 rows", "sdpa", 1.15, Reductions(rows=rows, top_k=8)),
        Work("8 masses of all rows", "sdpa", 1.25, Reductions(spans=spans)),
        Work("received, 64 rows, masses", "sdpa", 1.9, three),
        Work("all statistics", "sdpa", 3.5, everything),
        Work("mask", "sdpa", 1.05, edits=HeadEdits(gain=torch.zeros(1, HEADS))),
        Work("scale", "sdpa", 1.05, edits=HeadEdits(gain=torch.full((1, HEADS), 0.5))),
        Work("calibrate 4 keys", "sdpa", 1.3, edits=classes(n, sinks, 0.4, 1, every)),
        Work("calibrate 4 keys, 1 of 8 heads", "sdpa", 1.15, edits=classes(n, sinks, 0.4, 1, one)),
        Work("amplify 576 keys", "sdpa", 1.6, edits=classes(n, image, 2.0, 2, every)),
        Work("amplify 576 keys, 1 of 8 heads", "sdpa", 1.15, edits=classes(n, image, 2.0, 2, one)),
        *(rest if more else []),
    ]


def _suppress(n: int, heads: Tensor) -> HeadEdits:
    """The text after an image switched off where it holds more than 0.3 of a row."""
    edits = classes(n, list(range(40 + AMPLIFIED, n)), 0.0, 0, heads)
    return replace(edits, least_mass=torch.full((1, HEADS, 1), 0.3))


def _boost(n: int, keys: list[int]) -> HeadEdits:
    """Scores of an image raised by half of their size in every head (PAI)."""
    key_class = torch.zeros(1, 1, n, dtype=torch.long)
    key_class[..., keys] = 1
    return HeadEdits(key_class=key_class, boost=torch.full((1, HEADS, 1), 0.5))


def classes(n: int, keys: list[int], gain: float, freed: int, heads: Tensor) -> HeadEdits:
    """A gain on some keys in some heads."""
    key_class, gains = torch.zeros(1, 1, n, dtype=torch.long), torch.ones(1, HEADS, 1)
    key_class[..., keys] = 1
    gains[..., 0] = torch.where(heads, gain, 1.0)
    return HeadEdits(key_class=key_class, class_gain=gains, freed=torch.where(heads, freed, 0))


def sdpa(layers: Layers) -> list[Tensor]:
    """Plain fused attention."""
    return [F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True) for q, k, v in layers]


def ours(layers: Layers, work: Work) -> list[Any]:
    """Output, statistics, edits."""
    spec = AttentionSpec(scale=DIM**-0.5)
    return [attend(q, k, v, spec, work.edits, work.reductions) for q, k, v in layers]


def eager(layers: Layers, want: Reductions) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The N×N pattern of every layer, reduced to received attention, top 8 and masses of chosen rows."""
    assert want.rows is not None and want.spans is not None
    out = []
    for q, k, v in layers:
        n = q.shape[2]
        k, v = k.repeat_interleave(HEADS // KV, 1), v.repeat_interleave(HEADS // KV, 1)
        s = q @ k.mT * DIM**-0.5
        p = s.masked_fill(torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1), float("-inf")).softmax(-1)
        rows = p[:, :, want.rows[0]]
        masses = torch.stack([rows[..., a:b].sum(-1) for a, b in want.spans[0].tolist()], -1)
        out.append((p @ v, p.sum(2) / torch.arange(n, 0, -1, device=q.device), rows.topk(8, -1).values, masses))
    return out


def _peer(layers: Layers, work: Work) -> Any:
    return eager(layers, work.reductions) if work.peer == "eager" and work.reductions else sdpa(layers)


@torch.no_grad()
def table(n: int, repetitions: int = LEAST, more: bool = False) -> Iterator[dict[str, Any]]:
    """The rows at one length, each timed against its peer in turn."""
    layers = inputs(n)
    for work in works(n, more):
        figure = paired(partial(_peer, layers, work), partial(ours, layers, work), repetitions)
        ratio = figure["ratio"]["median"]
        shown = ratio if work.peer == "eager" else round(1 / ratio, 3)
        met = None
        if work.target is not None:
            met = shown >= work.target if work.peer == "eager" else shown <= work.target
        yield {
            "tokens": n, "work": work.name, "peer": work.peer, "times": shown, "target": work.target, "met": met, **figure,
        }  # fmt: skip
