"""What one variant gave: quality and costs of every case, with intervals over cases."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.bootstrap import percentile_interval
from workbench.controls import p_value
from workbench.policies.setting import Setting
from workbench.simulation.costs import Costs
from workbench.simulation.quality import Quality
from workbench.views.masking import wilson

QUALITY = tuple(f.name for f in fields(Quality))
COSTS = tuple(f.name for f in fields(Costs))
DRAWS = 1000
SAVES = 0.995
"""A share of the full cache's cost below this is a saving."""


@dataclass(frozen=True, eq=False)
class Point:
    """One policy at one budget. quality, costs: per case, by kind. controls: mean recall of each random list."""

    text: str
    budget: float | None
    prefill: str
    exact: bool
    constants: dict[str, Any]
    quality: dict[str, Float[np.ndarray, "cases fields"]]
    costs: dict[str, Float[np.ndarray, "cases fields"]]
    controls: tuple[float, ...] = ()
    seed: int = 0

    @property
    def label(self) -> str:
        """As in tables."""
        return self.text if self.budget is not None else f"{self.text}, published"

    def of(self, field: str, kind: str = "needle") -> Float[np.ndarray, " cases"]:
        """A field of every case; empty where the kind was not asked."""
        table, names = (self.quality, QUALITY) if field in QUALITY else (self.costs, COSTS)
        return table[kind][:, names.index(field)] if kind in table else np.empty(0)

    def mean(self, field: str, kind: str = "needle") -> float:
        """Over cases."""
        return float(self.of(field, kind).mean()) if len(self.of(field, kind)) else float("nan")

    @property
    def recall(self) -> tuple[float, float, float]:
        """Share of needles told, with its 95 % Wilson interval."""
        return (self.mean("recall"), *wilson(self.mean("recall"), len(self.of("recall"))))

    def interval(self, field: str) -> tuple[float, float, float]:
        """A mean over needles with its 95 % bootstrap interval."""
        low, high = percentile_interval(self.of(field)[:, None], None, 0.95, DRAWS, self.seed)
        return self.mean(field), float(low[0]), float(high[0])

    @property
    def perplexity(self) -> tuple[float, float]:
        """Of the texts without a needle: with the cut cache, and with the full one."""
        return tuple(float(np.exp(self.mean(name, "prose"))) for name in ("loss", "full_loss"))  # type: ignore[return-value]

    @property
    def p(self) -> float | None:
        """How many random lists keep as much recall: (1 + those) / (1 + all); None without any."""
        return p_value(self.mean("recall"), self.controls) if self.controls else None

    def saves(self, cost: str) -> bool:
        """Whether it costs less than the full cache does."""
        return self.mean(cost) < SAVES

    def summary(self) -> dict[str, Any]:
        """Plain values."""
        recall, kl, agree = self.recall, self.interval("kl"), self.interval("agree")
        return {
            "policy": self.text, "budget": self.budget, "prefill": self.prefill, "constants": self.constants,
            "recall": recall[0], "recall_interval": recall[1:], "kl": kl[0], "kl_interval": kl[1:],
            "agree": agree[0], "agree_interval": agree[1:], "perplexity": self.perplexity[0],
            **{name: self.mean(name) for name in COSTS},
            "random_lists": list(self.controls), "p": self.p,
        }  # fmt: skip


def told_budget(setting: Setting) -> str:
    """What a budget is a share of."""
    entries = setting.size * setting.tokens
    return f"{entries:,} entries ({setting.size} key-value heads × {setting.tokens:,} tokens)"
