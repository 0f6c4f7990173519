"""MInference's A-shape from a head list (Jiang et al. 2024, arXiv 2407.02490; `stream_llm` in its files): prefill only.

While the prompt is read, the listed heads see everything and the others the first tokens and the last ones; every token
that is decoded then sees the whole cache. The budget is a share of the prefill's attention products.
"""

from __future__ import annotations

import math

import torch

from workbench.policies import Policy
from workbench.policies.scheme import Scheme, Streams, keep_all
from workbench.policies.setting import Setting

SINK, RECENT = 1000, 6096


def _make(setting: Setting) -> Scheme:
    k, held = setting.split(1.0, 2)
    window = max(2, prefill_window(setting, held / setting.tokens))
    sink = max(1, window * SINK // (SINK + RECENT))
    return _scheme(setting, k, sink, window - sink)


def prefill_window(setting: Setting, share: float) -> int:
    """The window with which a head makes this share of the prefill's products: 1 − (1 − w)² for a window of the share w."""
    return int(setting.tokens * (1 - math.sqrt(1 - share)))


def _published(setting: Setting) -> Scheme:
    setting.shorter(SINK + RECENT)
    return _scheme(setting, setting.size // 2, SINK, RECENT)


def _scheme(setting: Setting, k: int, sink: int, recent: int) -> Scheme:
    flags = {layer: torch.from_numpy(~full) for layer, full in setting.full(k).items()}
    return Scheme(keep_all, setting.told(full_heads=k, sink=sink, recent=recent), Streams(flags, sink, recent))


POLICY = Policy(
    "minference",
    "MInference's A-shape: all heads but the listed read the prompt in windows; decoding sees everything",
    "arXiv 2407.02490",
    _make,
    _published,
    needs="list",
    prefills=("streaming",),
)
