"""Patterns without some of their keys, for probes: the weights of these are 0, the others stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor
from workbench_kernels import HeadEdits

from workbench.errors import Unsupported
from workbench.looking import Look, Seen
from workbench.masks import CompactMask
from workbench.probes.probe import Hides


@torch.no_grad()
def hidden(
    hides: Hides, mask: CompactMask, heads: int, look: Look, edits: Sequence[HeadEdits]
) -> Bool[Tensor, "b h k"]:
    """The keys that a probe does without in one layer. Raises Unsupported under edits, and where tokens are cached."""
    if edits:
        raise Unsupported("probes without sinks look at the model as it is: observe outside of interventions")
    if mask.q_offset:
        raise Unsupported("probes without sinks look at whole texts: observe one forward, not a generation")
    text = mask.padding
    if text is None:
        text = torch.ones(mask.batch, mask.keys, dtype=torch.bool, device=mask.device)
    gone = hides(Seen(replace(mask, padding=text), partial(look, list(range(heads)), (), text)))
    return gone.expand(-1, heads, -1)


def without(keys: Bool[Tensor, "b h k"]) -> HeadEdits:
    """The edit that sets the weights of these keys to 0 and gives them to nobody."""
    gain = (~keys.any(-1)).float()[..., None]  # heads without such keys keep the quick way
    return HeadEdits(key_class=keys.to(torch.int8), class_gain=gain)
