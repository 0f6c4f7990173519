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
    """One policy at one budget. quality, costs: per case, by kind. controls: mean recall of each random list.

    work: entries that all decoded steps of the needles found in the cache, and seconds of attention over them.
    """

    text: str
    budget: float | None
    prefill: str
    exact: bool
    constants: dict[str, Any]
    quality: dict[str, Float[np.ndarray, "cases fields"]]
    costs: dict[str, Float[np.ndarray, "cases fields"]]
    controls: tuple[float, ...] = ()
    seed: int = 0
    work: tuple[float, float] = (0.0, 0.0)

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

    def interval(self, field: str, kind: str = "needle") -> tuple[float, float, float]:
        """A mean over cases with its 95 % bootstrap interval; NaN where the kind was not asked."""
        values = self.of(field, kind)
        if not len(values):
            nothing = float("nan")
            return nothing, nothing, nothing
        low, high = percentile_interval(values[:, None], None, 0.95, DRAWS, self.seed)
        return float(values.mean()), float(low[0]), float(high[0])

    @property
    def perplexity(self) -> tuple[float, float, float]:
        """Of the texts without a needle, with the cut cache: e to the mean loss and to its interval."""
        value, low, high = (float(np.exp(x)) for x in self.interval("loss", "prose"))
        return value, low, high

    @property
    def full_perplexity(self) -> float:
        """The same with the full cache."""
        return float(np.exp(self.mean("full_loss", "prose")))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of RULER that were asked."""
        return tuple(kind for kind in self.quality if kind not in ("needle", "prose"))

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
            "agree": agree[0], "agree_interval": agree[1:],
            "perplexity": self.perplexity[0], "perplexity_interval": self.perplexity[1:],
            "full_perplexity": self.full_perplexity,
            "tasks": {task: self._task(task) for task in self.tasks},
            **{name: self.mean(name) for name in COSTS},
            "random_lists": list(self.controls), "p": self.p,
            "decoding": {"entries": self.work[0], "seconds": self.work[1]},
        }  # fmt: skip

    def _task(self, task: str) -> dict[str, Any]:
        score, *interval = self.interval("score", task)
        said = {"score": score, "interval": interval, "full_cache": self.mean("full_score", task)}
        return said | {name: self.mean(name, task) for name in ("kept", "read")}


def told_budget(setting: Setting) -> str:
    """What a budget is a share of."""
    entries = setting.size * setting.tokens
    return f"{entries:,} entries ({setting.size} key-value heads × {setting.tokens:,} tokens)"
