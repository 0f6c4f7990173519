"""Evicted entries that are not lost: each goes into the kept key that is most like it, or is dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.policies.scheme import Kept, Seen, chosen

Weigh = Callable[[Float[Tensor, " e"]], Float[Tensor, " e"]]
"""Cosines of evicted entries with their kept keys → how much each counts."""


def merged(seen: Seen, entries: Bool[Tensor, "g n"], weigh: Weigh, least: float | None) -> Kept:
    """Those entries; keys and values are means over what has joined them, and themselves (a cosine of 1).

    None joins the last token of the prompt: it may be decoded once more, and what had joined it would be lost.

    An evicted entry joins the nearest kept key where their cosine is at least `least`; None: at least the mean of all
    evicted entries' cosines in that head.
    """
    keys, values = seen.keys.float(), seen.values.float()
    pairs = [_merged(k, v, kept, weigh, least) for k, v, kept in zip(keys, values, entries, strict=True)]
    new_keys, new_values = (torch.stack(x) for x in zip(*pairs, strict=True))
    return replace(chosen(entries), keys=new_keys.to(seen.keys.dtype), values=new_values.to(seen.values.dtype))


def _merged(
    keys: Float[Tensor, "n d"],
    values: Float[Tensor, "n d"],
    kept: Bool[Tensor, " n"],
    weigh: Weigh,
    least: float | None,
) -> tuple[Tensor, Tensor]:
    """Of one head; entries that are not kept come back as they were."""
    stay, gone = kept[:-1].nonzero()[:, 0], (~kept).nonzero()[:, 0]
    if not len(stay) or not len(gone):
        return keys, values
    unit = torch.nn.functional.normalize(keys, dim=-1)
    cosine, nearest = (unit[gone] @ unit[stay].T).max(-1)
    joins = cosine >= (cosine.mean() if least is None else least)
    source, target, weight = gone[joins], stay[nearest[joins]], weigh(cosine[joins])
    own = weigh(torch.ones_like(keys[:, 0]))
    total = own.index_add(0, target, weight)[:, None]
    return tuple((own[:, None] * x).index_add(0, target, weight[:, None] * x[source]) / total for x in (keys, values))  # type: ignore[return-value]
