"""The result of a sink scan: which heads park where, what their sinks are for, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench.heads import Head, HeadScores
from workbench.reported import OfCommand
from workbench_analyses.attention_sinks import COMMAND, ScanSinks
from workbench_analyses.sinks.against import Against
from workbench_analyses.sinks.causal import EVERY, Check
from workbench_analyses.sinks.deciding import LEVEL, MATTERS
from workbench_analyses.sinks.found import Found, Parked

if TYPE_CHECKING:
    from pandas import DataFrame

NOTHING_HIDDEN = "none parks on a later token"


@dataclass(frozen=True, eq=False)
class InText:
    """Received attention of some heads over one natural text, 0 at keys that too few queries see.

    words: its tokens as strings. sinks: the key of each head's strongest sink, each once.
    """

    heads: tuple[Head, ...]
    words: tuple[str, ...]
    received: Float[np.ndarray, "heads T"]
    sinks: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class SinkScan(OfCommand):
    """Sinks of natural and random texts, the causal check, the comparison with retrieval, and what it took.

    scores: S_BOS (of texts without BOS: S_first), mean attention to the first token, on natural texts. companions: the
    same on random texts, hidden sinks per text, what the strongest sink receives (0: none), the learned sink's share where
    there is one. words:
    strings of the token ids in here. dims, tau: sink dimensions and the Φ from which a token is a sink token. measure:
    what the check's verdicts go by, loss or kl. near: the checked heads do not park, they come nearest to it. cost:
    seconds and peak memory. path: the run folder.
    """

    typed = COMMAND

    scores: HeadScores
    companions: dict[str, HeadScores]
    natural: Found
    random: Found
    parked: tuple[Parked, ...]
    near: bool
    checks: tuple[Check, ...]
    against: Against | str
    in_text: InText
    words: Mapping[int, str]
    dims: list[int]
    tau: float
    measure: str
    config: ScanSinks
    model_label: str
    cost: dict[str, float]
    path: str | None = None

    @property
    def first_word(self) -> str:
        """How the first token is called: by its name where it is BOS, the same in all texts."""
        return self.words[int(self.natural.texts.tokens[0, 0])] if self.natural.texts.begun else "the first token"

    @property
    def score_name(self) -> str:
        """How attention to the first token is called: S_BOS, or S_first where that is no BOS token."""
        return "S_BOS" if self.natural.texts.begun else "S_first"

    @property
    def verdict(self) -> str:
        """The finding in a line; what was not found comes first."""
        c, first = self.config, [p for p in self.parked if p.first]
        later = [p for p in self.parked if not p.first]
        words = ", ".join(f"“{self.words[t]}”" for t in dict.fromkeys(p.token for p in later))
        hidden = f"{len(later)} on a later token ({words})" if later else NOTHING_HIDDEN
        if not first:
            hidden = f"{len(later)} heads park on a later token ({words})" if later else NOTHING_HIDDEN
            best = self.scores.top(1).heads[0]
            value = float(self.scores.values[best])
            most = f"the largest mean attention to {self.first_word} is {value:.2f} ({best}) at T = {c.tokens}"
            below = f"below ε = {c.epsilon:g}"
            if value > c.epsilon:
                below = f"above ε = {c.epsilon:g}, but not as a sink by the corrected rule in enough texts"
            found = f"no first-token sink: {most}, {below}; {hidden}"
        else:
            n = int(self.scores.scored.sum())
            place = f"the first token {self.first_word}" if self.natural.texts.begun else self.first_word
            found = f"{len(first)} of {n} heads park on {place}, {hidden}"
        return f"{found}; {self._checked()}"

    def _checked(self) -> str:
        if not self.checks:
            return "not validated" if self.config.proof == "none" else "no head has a sink to check"
        told = [check.needed(self.measure) for check in self.checks]
        needed, parks, unknown = told.count(True), told.count(False), told.count(None)
        rest = f", {unknown} not settled" if unknown else ""
        rest += f" ({self.too_few})" if unknown and self.too_few else ""
        if self.near:
            return f"of the {len(told)} nearest heads {needed or 'none'} need their sink{rest}"
        which = "" if len(told) == len(self.parked) else f"of the {len(told)} strongest "
        return f"by the causal check {which}{needed} need their sink, {parks} only park{rest}"

    @property
    def too_few(self) -> str | None:
        """What to say where so few texts can show no head to need its sink, even if all of them say so."""
        n, heads = len(self.natural.first), len(self.checks)
        if heads * 0.5**n <= LEVEL:
            return None
        return (
            f"{n} texts cannot show that one of {heads} heads needs its sink; samples={ceil(log2(heads / LEVEL))} can"
        )

    def told(self, check: Check) -> str:
        """The verdict on a head; of one that does not park it is not said that it does."""
        return check.verdict(self.measure).removeprefix("parked, " if self.near else "")

    @property
    def conditions(self) -> str:
        """What the numbers depend on."""
        c = self.config
        begin = f"{self.first_word} first" if self.natural.texts.begun else "no BOS"
        n = len(self.natural.first)
        return (
            f"T = {c.tokens} tokens, {begin}, no padding; {n} natural texts ({self.natural.texts.source}) and {n} of "
            f"uniformly random tokens"
        )

    def epsilon_rate(self, found: Found) -> float:
        """Sink^eps × 100: share of (text, layer, head) whose first token gets more than epsilon, T = epsilon_tokens."""
        known = found.rate[~np.isnan(found.rate)]
        return float(100 * (known > self.config.epsilon).mean())

    def sinks_frame(self) -> DataFrame:
        """Every corrected sink, one row per text, head and key."""
        import pandas as pd

        rows = [
            {"texts": found.texts.kind, "text": s.text, "layer": s.head.layer, "head": s.head.head, "key": s.key,
             "token": self.words[s.token], "received": s.received, "even": s.even, "held": s.held,
             "value_norm_ratio": s.value_ratio, "key_norm_ratio": s.key_ratio, "says": s.says, "phi": s.phi}
            for found in (self.natural, self.random) for s in found.sinks
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def checks_frame(self) -> DataFrame:
        """The causal check, one row per head and operation."""
        import pandas as pd

        rows = []
        for check in self.checks:
            for op in EVERY:
                row: dict[str, Any] = {"layer": check.parked.head.layer, "head": check.parked.head.head, "edit": op}
                for what in ("loss", "kl", "control_loss", "control_kl"):
                    names = (what, f"{what}_low", f"{what}_high")
                    row |= dict(zip(names, check.change(op, what), strict=True))
                for what in MATTERS:
                    row |= {f"beyond_{what}_{k}": v for k, v in check.beyond[op, what]._asdict().items()}
                rows.append(row | {"controls": len(check.controls), "verdict": self.told(check)})
        return pd.DataFrame(rows)

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.sinks.report import report

        return report(self)

    def summary(self) -> dict[str, Any]:
        """The scan as plain values."""
        from workbench_analyses.sinks.tables import summary

        return summary(self)

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.sinks.terminal import terminal

        return terminal(self)

    def _repr_html_(self) -> str:
        """The notebook output: verdict and a small head map."""
        from workbench.views.notebook import mini_html

        low, high = self.scores.interval()
        about = f"{self.model_label}. {self.verdict}. {self.conditions}."
        kv = self.scores.kv_heads
        return mini_html(self.scores.values, "first-token attention", low=low, high=high, kv_heads=kv, caption=about)
