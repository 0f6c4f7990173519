"""Heads that hold the first tokens and the last ones: what StreamingLLM and DuoAttention share."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool

from workbench.policies.scheme import Kept, Scheme, Seen, Streams, first
from workbench.policies.setting import Setting


def streaming(
    setting: Setting,
    full: dict[int, Bool[np.ndarray, " g"]],
    sink: int,
    recent: int,
    renumbered: bool = False,
    **told: object,
) -> Scheme:
    """Full heads keep everything, all others `sink` first tokens and the last `recent`, which move on while decoding."""
    flags = {layer: torch.from_numpy(~kept) for layer, kept in full.items()}

    def keep(layer: int, seen: Seen) -> Kept:
        streams = flags[layer].to(seen.keys.device)
        entries = first(seen, sink) | ~streams[:, None]
        return Kept(entries, streams.long() * recent, ~streams)

    prefill = None
    if setting.prefill != "full":
        chunk = setting.chunk if setting.prefill == "chunked" else 0
        prefill = Streams(flags, sink, recent, chunk, renumbered)
    constants = setting.told(**told, sink=sink, recent=recent)
    return Scheme(keep, constants, prefill, renumbered=renumbered)
