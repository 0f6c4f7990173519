"""RazorAttention (Tang et al. 2024, arXiv 2407.15891): listed heads stay full, the others keep sinks, a window and one
compensation token: the mean of the dropped keys and values, counted as often as entries were dropped.

The prompt is read by full attention, then the cache is cut; generated tokens are appended.
"""

from __future__ import annotations

import torch

from workbench.policies import Policy
from workbench.policies.scheme import Kept, Scheme, Seen, Summary, everything, first
from workbench.policies.setting import Setting

SINK = 4
SHARE = 0.15
"""Of key-value heads that stay full: 14 % by induction and 1 % by echo scores."""
LEAST, PART = 4000, 5
"""The published window: at least so many tokens, or this part of the prompt."""


def _make(setting: Setting) -> Scheme:
    k, room = setting.split(SHARE, SINK + 2)
    return _scheme(setting, k, room - SINK - 1)


def _published(setting: Setting) -> Scheme:
    window = setting.shorter(max(LEAST, setting.tokens // PART) + SINK + 1) - SINK - 1
    return _scheme(setting, round(SHARE * setting.size), window)


def _scheme(setting: Setting, k: int, window: int) -> Scheme:
    full = {layer: torch.from_numpy(kept) for layer, kept in setting.full(k).items()}

    def keep(layer: int, seen: Seen) -> Kept:
        return compensated(seen, full[layer].to(seen.keys.device), SINK, window)

    return Scheme(keep, setting.told(full_heads=k, sink=SINK, compensation=1, window=window))


def compensated(seen: Seen, full: torch.Tensor, sink: int, window: int) -> Kept:
    """Entries of one prompt with the summary of what was dropped; a head that would drop nothing stays full."""
    at = torch.arange(seen.tokens, device=seen.keys.device)
    dropped = (at >= sink) & (at < seen.tokens - window)
    count = int(dropped.sum())
    if count <= 1:  # a summary of one entry saves nothing
        return everything(seen)
    keys, values = (x[:, dropped].float().mean(1, keepdim=True).to(x.dtype) for x in (seen.keys, seen.values))
    weight = torch.where(full, 0.0, float(count))[:, None]
    entries = full[:, None] | first(seen, sink) | ~dropped
    nothing = torch.zeros_like(full, dtype=torch.long)
    return Kept(entries, nothing, torch.ones_like(full), summary=Summary(keys, values, weight))


POLICY = Policy(
    "razor",
    "RazorAttention: the listed heads hold everything, the others sinks, a window and the mean of the rest",
    "arXiv 2407.15891",
    _make,
    _published,
    needs="list",
)
