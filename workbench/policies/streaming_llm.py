"""StreamingLLM (Xiao et al. 2024, arXiv 2309.17453): every head holds the first 4 tokens and the last ones.

Positions count inside the cache: sinks move up behind the window, because keys are cached before they are rotated. The
prompt is read in the same way from its first token on.
"""

from __future__ import annotations

from workbench.policies import Policy
from workbench.policies.scheme import Scheme
from workbench.policies.setting import Setting, TooTight
from workbench.policies.streaming import streaming

SINK, CACHE = 4, 1024


def _make(setting: Setting) -> Scheme:
    recent = setting.capacity - SINK
    if recent < 1:
        raise TooTight(f"budget {setting.budget:g} leaves no entry beside {SINK} sinks")
    return _scheme(setting, recent)


def _published(setting: Setting) -> Scheme:
    return _scheme(setting, setting.shorter(CACHE) - SINK)


def _scheme(setting: Setting, recent: int) -> Scheme:
    return streaming(setting, setting.full(0), SINK, recent, renumbered=True, positions="in the cache")


POLICY = Policy(
    "streaming",
    "StreamingLLM: every head holds the first 4 tokens and the last ones, positions counted in the cache",
    "arXiv 2309.17453",
    _make,
    _published,
    prefills=("streaming", "full"),
)
