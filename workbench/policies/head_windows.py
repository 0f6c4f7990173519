"""A window for every key-value head: what `workbench fit-windows` assigns, as a rule of the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int

from workbench.policies.scheme import Kept, Scheme, Seen, first


def head_windows(windows: Mapping[int, Int[np.ndarray, " g"]], sink: int, context: int) -> Scheme:
    """Heads hold the first `sink` tokens and their last ones, which move on while decoding.

    windows: tokens, layer by layer; a head whose window reaches `context` holds everything.
    """
    recent = {layer: torch.from_numpy(np.asarray(own, dtype=np.int64)) for layer, own in windows.items()}

    def keep(layer: int, seen: Seen) -> Kept:
        own = recent[layer].to(seen.keys.device)
        whole = own >= context
        return Kept(first(seen, sink) | whole[:, None], own.masked_fill(whole, 0), whole)

    return Scheme(keep, {"sink": sink, "context": context, "prefill": "full"})


def entries(windows: Sequence[Int[np.ndarray, " g"]], sink: int, context: int, tokens: int) -> int:
    """Key-value entries that such heads hold of a prompt of so many tokens."""
    table = np.stack(list(windows))
    return int(np.where(table >= context, tokens, np.minimum(sink + table, tokens)).sum())
