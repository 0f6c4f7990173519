"""MInference's vertical-slash pattern (Jiang et al. 2024, arXiv 2407.02490) in every head: prefill only.

A query head looks at what the prompt's last 64 rows attend to: the keys that get most (vertical lines) and the distances
that get most (slash lines). Every row of the prompt then reads those lines only; every token that is decoded sees the
whole cache. The first keys and the shortest distances are always among the lines. The budget is a share of the prefill's
attention products, met from below: lines that lie elsewhere than at the ends are shorter.
"""

from __future__ import annotations

from workbench.policies import Policy
from workbench.policies.minference import prefill_window
from workbench.policies.scheme import Scheme, Slashes, keep_all
from workbench.policies.setting import Setting, TooTight

VERTICAL, SLASH = 1000, 6096
FIRST, LAST = 30, 100
"""Published lines, and those of them that are always read."""


def _make(setting: Setting) -> Scheme:
    lines = prefill_window(setting, setting.budget)
    if lines < 2:
        raise TooTight(f"budget {setting.budget:g} leaves {lines} lines of the prefill")
    vertical = max(1, lines * VERTICAL // (VERTICAL + SLASH))
    return _scheme(setting, vertical, lines - vertical)


def _published(setting: Setting) -> Scheme:
    setting.shorter(VERTICAL + SLASH)
    return _scheme(setting, VERTICAL, SLASH)


def _scheme(setting: Setting, vertical: int, slash: int) -> Scheme:
    first, last = max(1, round(vertical * FIRST / VERTICAL)), max(1, round(slash * LAST / SLASH))
    told = setting.told(vertical=vertical, slash=slash, first=first, last=last)
    return Scheme(keep_all, told, Slashes(vertical, slash, first, last))


POLICY = Policy(
    "vertical-slash",
    "MInference's vertical-slash: every head reads the prompt along its own lines; decoding sees everything",
    "arXiv 2407.02490",
    _make,
    _published,
    prefills=("streaming",),
)
