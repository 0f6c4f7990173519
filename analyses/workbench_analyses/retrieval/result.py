"""The result of a retrieval scan: what was found, how it was proved, what it took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.comparison import Comparison
from workbench.heads import HeadScores
from workbench.probes.near_ties import TIE, NearTies
from workbench.probes.repeats import RepeatScores
from workbench.reported import OfCommand
from workbench.stopping import Decision
from workbench.validation import Validation
from workbench_analyses.retrieval.looks import Looks
from workbench_analyses.retrieval.proof import Proved
from workbench_analyses.retrieval.units import LEAST
from workbench_analyses.retrieval_heads import COMMAND, ScanHeads

TOP = 10


@dataclass(frozen=True, eq=False, repr=False)
class Scan(OfCommand):
    """Scores of all heads, their proof, and what it took.

    companions: raw, mass, statement_mass, qrhead, echo, induction, previous. samples: one row each, as in samples.parquet.
    agreement: of half-precision models, how many of how many samples one forward scored as plain decoding does.
    looks, maps: rows of attention on one sample, and whole maps of a short one; None where nothing was scored.
    cost: seconds of this session's scan and proof, peak memory, and, with a run folder, seconds of the units of all
    sessions. path: the run folder, if one was written.
    """

    typed = COMMAND

    scores: HeadScores
    companions: dict[str, HeadScores]
    samples: list[dict[str, Any]]
    repeats: RepeatScores
    proved: Proved
    decision: Decision | None
    config: ScanHeads
    model_label: str
    template: str
    agreement: tuple[int, int] | None
    looks: Looks | None
    maps: Looks | None
    cost: dict[str, float]
    path: str | None = None

    @property
    def validation(self) -> Validation | None:
        """The masking curves and their primary test."""
        return self.proved.validation

    @property
    def focus(self) -> Comparison | None:
        """QRHead against the copy score: the list's length decides how many heads are looked at; None without both."""
        k, other = len(self.scores.at_least(self.config.threshold)), self.companions["qrhead"]
        if not k or not (self.scores.scored & other.scored).any():
            return None
        return self.scores.compare(other, k=k, threshold=self.config.threshold)

    @property
    def ties(self) -> NearTies:
        """How many choices other rounding may decide otherwise."""
        return NearTies.of(self.samples)

    @property
    def accepted(self) -> int:
        """Samples that the model answered."""
        return sum(s["accepted"] for s in self.samples)

    @property
    def verdict(self) -> str:
        """The finding in a line; what was not found comes first."""
        n = len(self.samples)
        if self.accepted < LEAST:
            best = float(np.nanmax(self.repeats.induction))
            induction = f"no induction head (max {best:.2f})" if best < 0.1 else f"best induction head {best:.2f}"
            return f"not scored: {self.accepted} of {n} answered; {induction}"
        found = self.scores.at_least(self.config.threshold)
        share = f"{len(found)} of {self.scores.values.size} heads score ≥ {self.config.threshold:g}"
        return f"{share} ({self.accepted} of {n} samples answered); {self._proved()}"

    def _proved(self) -> str:
        v = self.validation
        if v is None:
            return "not validated"
        if v.p is None:
            return "no layer-matched control exists for this list: not validated"
        weak = "NOT shown to be more harmful than matched random heads"
        word = "masking them hurts more than matched random heads" if v.p <= 0.05 else weak
        return f"{word} (p = {v.p:.3f}, area {v.area:.2f}, n = {v.n})"

    @property
    def sparsity(self) -> str:
        """How few heads there are."""
        v, t = self.scores.values, self.config.threshold
        return (
            f"{int((v >= t).sum())} heads ≥ {t:g}, {int((v >= 0.5).sum())} ≥ 0.5, {int((v == 0).sum())} never above "
            f"0, {len(self.scores.always_on())} in every sample, of {v.size}"
        )

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.retrieval.report import report

        return report(self)

    def summary(self) -> dict[str, Any]:
        """The scan as plain values."""
        from workbench_analyses.retrieval.claims import claims

        return {
            "model": self.model_label, "verdict": self.verdict, "samples": len(self.samples),
            "accepted": self.accepted, "top": self._top(),
            "retrieval_heads": self.scores.at_least(self.config.threshold).to_json(),
            "always_on": self.scores.always_on().to_json(),
            "claims": {c.name: {"answer": c.answer, "evidence": c.evidence} for c in claims(self)},
            "decoded_share": float(np.mean([s["decoded"] for s in self.samples])), "agreement": self.agreement,
            "near_ties": {"margin": TIE, **asdict(self.ties)},
            "template": self.template, "repeat_k": self.repeats.k, "repeat_accuracy": self.repeats.accuracy,
            "stopped": None if self.decision is None else self.decision.__dict__,
            "validation": self.validation.to_json() if self.validation else "not validated",
            "kept": self.proved.keeping.to_json() if self.proved.keeping else None,
            "reasoning": self.proved.reasoning.to_json() if self.proved.reasoning else None,
            "qrhead": self._qrhead(),
            "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def _qrhead(self) -> dict[str, Any]:
        scores = self.companions["qrhead"]
        low, high = scores.interval()
        return {
            "n": scores.n, "null_query": scores.parameters["null_query"],
            "top": [{"layer": h.layer, "head": h.head, "score": float(scores.values[h]), "low": float(low[h]),
                     "high": float(high[h])} for h in scores.top(TOP)],
            "agreement": None if self.focus is None else self.focus.summary(),
        }  # fmt: skip

    def _top(self) -> list[dict[str, Any]]:
        if not self.scores.n:
            return []
        low, high = self.scores.interval()
        return [
            {"layer": h.layer, "head": h.head, "score": float(self.scores.values[h]), "low": float(low[h]),
             "high": float(high[h]), "induction": float(self.repeats.induction[h]), "echo": float(self.repeats.echo[h])}
            for h in self.scores.top(TOP)
        ]  # fmt: skip

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.retrieval.terminal import terminal

        return terminal(self)

    def _repr_html_(self) -> str:
        """The notebook output: verdict and a small head map."""
        from workbench.views.notebook import mini_html

        scores = self.scores if self.scores.n else self.companions["induction"]
        low, high = scores.interval()
        title = "retrieval score" if self.scores.n else "induction score"
        about = f"{self.model_label}. {self.verdict}."
        return mini_html(scores.values, title, low=low, high=high, kv_heads=scores.kv_heads, caption=about)
