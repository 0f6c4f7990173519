"""DuoAttention as kvpress 0.5.5 has it (DuoAttentionPress): the prompt is read in full and the window stays at its end.

Streaming heads lose the middle of the prompt and keep every generated token. kvpress masks those entries and saves no
memory; here they are counted as gone, which is what the policy would cost where it is served.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool

from workbench.policies import Policy
from workbench.policies.duo_attention import as_published, solved
from workbench.policies.scheme import Kept, Scheme, Seen, chosen, first
from workbench.policies.setting import Setting


def fixed_window(
    setting: Setting, full: dict[int, Bool[np.ndarray, " g"]], sink: int, recent: int, **told: object
) -> Scheme:
    """Full heads keep everything, all others `sink` first tokens of the prompt, its `recent` last ones, and what follows."""
    flags = {layer: torch.from_numpy(kept) for layer, kept in full.items()}

    def keep(layer: int, seen: Seen) -> Kept:
        at = torch.arange(seen.tokens, device=seen.keys.device)
        last = at >= seen.tokens - recent
        return chosen(first(seen, sink) | last | flags[layer].to(seen.keys.device)[:, None])

    return Scheme(keep, setting.told(**told, sink=sink, recent=recent))


POLICY = Policy(
    "kvpress",
    "DuoAttention in kvpress 0.5.5: the window of the other heads stays where the prompt ends, what follows is kept",
    "github NVIDIA/kvpress, DuoAttentionPress",
    solved(fixed_window),
    as_published(fixed_window),
    needs="list",
)
