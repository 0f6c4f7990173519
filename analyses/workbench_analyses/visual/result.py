"""The result of a visual scan: how the model behaves, which heads see, and whether acting on them helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.bootstrap import percentile_interval
from workbench.heads import HeadScores
from workbench.reported import OfCommand
from workbench_analyses.visual.agreement import Agreement
from workbench_analyses.visual.behaviour import Behaviour, Figure
from workbench_analyses.visual.measuring import Measured
from workbench_analyses.visual_heads import COMMAND, ScanVisual

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.visual.looks import Looks
    from workbench_analyses.visual.table_result import HonestTable

NAMES = {
    "vhd": "VHD", "vhd_relative": "VHD, relative", "vhd_cosine": "VHD, cosine", "vhd_blank": "VHD, blank picture",
    "image_mass": "image mass", "causal_contrast": "causal contrast", "localisation": "localisation",
    "visual_sinks": "visual sinks", "image_centric": "image-centric",
}  # fmt: skip
"""Scores by their keys, as they are called on pages."""


@dataclass(frozen=True, eq=False, repr=False)
class VisualScan(OfCommand):
    """behaviour: of the report set, nothing done to the model. heads: scores on the score set. agreements: of rankings.

    table: interventions at equal recall, or why there is none. looks: what heads looked at, or why that is not known.
    source: of the pictures; skipped: those that could not be read; counts: pictures by set and kind. cost: seconds and
    peak memory. path: the run folder.
    """

    typed = COMMAND

    behaviour: Behaviour
    heads: Measured
    agreements: Sequence[Agreement]
    table: HonestTable | str
    looks: Sequence[Looks] | str
    source: str
    skipped: Sequence[str]
    counts: Mapping[str, Mapping[str, int]]
    config: ScanVisual
    model_label: str
    cost: dict[str, float]
    path: str | None = None

    @property
    def scores(self) -> Mapping[str, HeadScores]:
        """Every score by its key: vhd, image_mass, causal_contrast, …"""
        return {name: self.heads.scores[name] for name in NAMES if name in self.heads.scores}

    @property
    def names(self) -> dict[str, str]:
        """What each score is called; causal contrast by what it was taken of, where that is no probability."""
        measure = self.scores["causal_contrast"].parameters["measure"] if "causal_contrast" in self.scores else ""
        of = {"log": " of log p", "absolute": " of |Δp|"}.get(measure, "")
        return {**NAMES, "causal_contrast": NAMES["causal_contrast"] + of}

    @property
    def sentence(self) -> str:
        """Whether acting on heads helps; what leads the report."""
        return self.table if isinstance(self.table, str) else self.table.sentence.rstrip(".")

    @property
    def verdict(self) -> str:
        """The finding in a line."""
        parts = [self.sentence, *(self._invents(kind) for kind in self.behaviour.chair)]
        partner = self.behaviour.partner
        if partner is not None:
            parts.append(
                f"it says yes to {partner.false_yes.value:.0%} of absent partners, an ideal observer to {partner.ideal:.0%}"
            )
        return "; ".join(parts)

    def _invents(self, kind: str) -> str:
        found, chair = self.behaviour.intervals[kind]["chair_s"], self.behaviour.chair[kind]
        what = "of its captions" if kind == "pictures" else f"of its captions of {kind} scenes"
        return (
            f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%}) {what} invent an object, "
            f"at recall {chair.recall:.0%}"
        )

    @property
    def conditions(self) -> str:
        """What the numbers depend on."""
        sets = "; ".join(
            f"{', '.join(f'{n} {kind}' for kind, n in self.counts[purpose].items())} to {verb}"
            for purpose, verb in (("score", "score heads"), ("choose", "choose strengths"), ("report", "report"))
        )
        return f"{self.source}: {sets}; greedy captions of at most {self.config.most} tokens"

    def t_vhd(self) -> dict[str, tuple[Figure, int]]:
        """T-VHD of correct and of invented words, and correct minus invented, with n; intervals resample pictures."""
        words, out = self.heads.words, {}
        for name, invented in (("correct", False), ("invented", True)):
            held = [w for w in words if w.invented == invented]
            out[name] = _mean(np.array([w.t_vhd for w in held]), [w.picture for w in held]), len(held)
        (a, n), (b, m) = out["correct"], out["invented"]
        if n and m:  # the influence of each word on the difference, see visual.causal_contrast
            x, off = np.array([w.t_vhd for w in words]), np.array([w.invented for w in words])
            each = np.where(off, -(x - b.value) * len(x) / m, (x - a.value) * len(x) / n) + a.value - b.value
            out["correct − invented"] = _mean(each, [w.picture for w in words]), len(x)
        return out

    def words_frame(self) -> DataFrame:
        """Every word that names an object in captions of the score set."""
        import pandas as pd

        return pd.DataFrame([vars(w) for w in self.heads.words])

    def captions_frame(self) -> DataFrame:
        """Captions of the report set, as judged."""
        import pandas as pd

        return pd.DataFrame([
            {"kind": kind, "picture": j.image, "caption": j.text, "named": ", ".join(sorted(j.named)),
             "invented": ", ".join(sorted({m.object for m in j.invented})), "there": ", ".join(sorted(j.objects))}
            for kind, rows in self.behaviour.judged.items() for j in rows
        ])  # fmt: skip

    def page(self) -> str:
        """The report as one offline HTML page. Raises TooLarge above 4 MB."""
        from workbench_analyses.visual.report import report

        return report(self)

    def summary(self) -> dict[str, Any]:
        """The scan as plain values."""
        from workbench_analyses.visual.tables import summary

        return summary(self)

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.visual.terminal import terminal

        return terminal(self)

    def _repr_html_(self) -> str:
        """The notebook output: verdict and a small head map."""
        from workbench.views.notebook import mini_html

        scores = self.heads.scores["vhd"]
        low, high = scores.interval()
        about = f"{self.model_label}. {self.verdict}. {self.conditions}."
        return mini_html(scores.values, "VHD", low=low, high=high, kv_heads=scores.kv_heads, caption=about)


def _mean(x: np.ndarray, groups: list[str]) -> Figure:
    if not len(x):
        return Figure(float("nan"), float("nan"), float("nan"))
    low, high = percentile_interval(x[:, None], groups, 0.95, 1000, 0)
    return Figure(float(x.mean()), float(low[0]), float(high[0]))
