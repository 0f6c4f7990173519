"""What a rule gave in the end: quality and costs of every case, beside the same windows dealt anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.controls import p_value
from workbench_analyses.kv.measured import Point

FIELDS = ("recall", "kl")


@dataclass(frozen=True, eq=False)
class Checked:
    """A rule at one tolerance. dealt: mean recall and KL of each deal of the same windows within their layers."""

    name: str
    tolerance: float
    point: Point
    dealt: tuple[tuple[float, float], ...] = ()

    @property
    def kept(self) -> float:
        """Share of the full cache's entries, mean over decoded steps."""
        return self.point.mean("kept")

    def of_deals(self, field: str) -> tuple[float, ...]:
        """Mean recall or KL of every deal."""
        return tuple(deal[FIELDS.index(field)] for deal in self.dealt)

    @property
    def p(self) -> float | None:
        """How many deals lose as little, by KL: (1 + those) / (1 + all); None without any."""
        return p_value(-self.point.mean("kl"), [-kl for kl in self.of_deals("kl")]) if self.dealt else None

    def summary(self) -> dict[str, Any]:
        """Plain values."""
        own = {k: v for k, v in self.point.summary().items() if k not in ("policy", "budget", "random_lists", "p")}
        deals = {f"dealt_{field}": list(self.of_deals(field)) for field in FIELDS}
        return {"rule": self.name, "tolerance": self.tolerance, **own, **deals, "p": self.p}
