"""DuoAttention (Xiao et al. 2024, arXiv 2410.10819): a list of heads stays full, the others stream at their positions.

Budget: full heads get up to half of it, the others the rest, a fifth of it as sinks (64 and 256 in the published
evaluation). One-shot prefill attends fully in all heads; as trained every row sees the window; deployed it goes by chunks.
"""

from __future__ import annotations

from collections.abc import Callable

from workbench.policies import PREFILLS, Policy
from workbench.policies.scheme import Scheme
from workbench.policies.setting import Setting
from workbench.policies.streaming import streaming

SINK, RECENT = 64, 256
SHARE = {True: 0.5, False: 0.25}
"""Published shares of full heads: with and without grouped queries."""


Rule = Callable[..., Scheme]
"""From a setting, the full heads, sinks and recent tokens of the others to what is kept."""


def solved(rule: Rule) -> Callable[[Setting], Scheme]:
    """A rule whose full heads and window are solved from the budget."""

    def make(setting: Setting) -> Scheme:
        k, window = setting.split(1.0, 2)
        sink = max(1, window * SINK // (SINK + RECENT))
        return rule(setting, setting.full(k), sink, window - sink, full_heads=k)

    return make


def as_published(rule: Rule) -> Callable[[Setting], Scheme]:
    """A rule with the published constants."""

    def make(setting: Setting) -> Scheme:
        setting.shorter(SINK + RECENT)
        k = round(SHARE[setting.group > 1] * setting.size)
        return rule(setting, setting.full(k), SINK, RECENT, full_heads=k)

    return make


POLICY = Policy(
    "duo",
    "DuoAttention: the listed heads hold everything, the others the first tokens and the last ones",
    "arXiv 2410.10819",
    solved(streaming),
    as_published(streaming),
    needs="list",
    prefills=PREFILLS,
)
