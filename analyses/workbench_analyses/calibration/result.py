"""The result of a calibration: each head alone with its tests, the list on held-out samples, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from workbench import atomic
from workbench.controls import Heads
from workbench.heads import ModelIdentity
from workbench.paired import discordant, least_discordant, mcnemar_p, sign_flip_p
from workbench_analyses.calibrate_heads import ASIDE, COMMAND, CalibrateHeads

APPLICABLE = 0.05
"""Share of (head, sample) pairs with a sink below which calibration has next to nothing to work on."""
TOP = 10


@dataclass(frozen=True, eq=False)
class Alone:
    """Every head calibrated alone, on the samples that select; arrays in the order of `heads`.

    margin: log-probability of the right choice less that of the best other, without edits [n]. change: what calibrating
    the head adds to it [heads, n]. eligible: (head, sample) pairs with a sink, of how many. parked: share of samples in
    which the head has a sink. p, q: sign flips of the change, Benjamini–Hochberg over all heads. mended, spoiled: samples
    that become right, wrong; exact, exact_q: McNemar's test of them.
    """

    heads: Heads
    margin: Float[np.ndarray, " n"]
    change: Float[np.ndarray, "heads n"]
    eligible: tuple[int, int]
    parked: Float[np.ndarray, " heads"]
    p: Float[np.ndarray, " heads"]
    q: Float[np.ndarray, " heads"]
    mended: Int[np.ndarray, " heads"]
    spoiled: Int[np.ndarray, " heads"]
    exact: Float[np.ndarray, " heads"]
    exact_q: Float[np.ndarray, " heads"]
    level: float

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.margin)

    @property
    def gain(self) -> Float[np.ndarray, " heads"]:
        """Mean change of the margin in nats."""
        return self.change.mean(1)

    def map(self, values: Float[np.ndarray, " heads"], n_layers: int) -> Float[np.ndarray, "layers heads"]:
        """One value a head as a map of the model; layers that were not tried are NaN."""
        out = np.full((n_layers, 1 + max(head for _, head in self.heads)), np.nan)
        for head, value in zip(self.heads, values, strict=True):
            out[head] = value
        return out

    @property
    def helpful(self) -> Heads:
        """Heads whose calibration raises the margin, after correction."""
        return tuple(h for h, q, g in zip(self.heads, self.q, self.gain, strict=True) if q <= self.level and g > 0)

    @property
    def harmful(self) -> Heads:
        """Heads whose calibration lowers it."""
        return tuple(h for h, q, g in zip(self.heads, self.q, self.gain, strict=True) if q <= self.level and g < 0)

    @property
    def applicable(self) -> bool:
        """Whether there is something to calibrate."""
        return self.eligible[0] >= APPLICABLE * self.eligible[1]

    @property
    def power(self) -> str:
        """What this many samples and heads can show by accuracy alone."""
        least = least_discordant(len(self.heads), self.level)
        return (
            f"among {len(self.heads)} heads accuracy shows an effect from {least} one-sided discordant samples on, "
            f"{least / self.n:+.1%} at n = {self.n}; the margin is the primary outcome"
        )


@dataclass(frozen=True)
class Judged:
    """One list on the held-out samples, against no edit. gain: of the mean margin, in nats; p: sign flips."""

    accuracy: float
    gain: float
    p: float
    mended: int
    spoiled: int
    exact: float

    @classmethod
    def of(cls, base: np.ndarray, margin: np.ndarray, seed: int) -> Self:
        """From the margins of the same samples without and with the list."""
        mended, spoiled = discordant(base > 0, (margin > 0)[None])
        p, exact = sign_flip_p((margin - base)[None], seed), mcnemar_p(mended, spoiled)
        return cls(
            float((margin > 0).mean()), float((margin - base).mean()), float(p[0]), int(mended[0]), int(spoiled[0]),
            float(exact[0]),
        )  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """The held-out half: no edit, the chosen list, its random controls, all heads tried.

    p: share of control lists that gain as much as the chosen one, at least 1 / (1 + draws); None without a control.
    """

    accuracy: float
    n: int
    chosen: Judged | None
    controls: Sequence[Judged]
    enumerated: bool
    p: float | None
    every: Judged


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """What calibrating sinks does to a task's answers."""

    config: CalibrateHeads
    model_label: str
    model: ModelIdentity
    layers: tuple[int, ...]
    n_layers: int
    alone: Alone
    judgement: Judgement
    cost: dict[str, float]
    path: str | None = None

    def __repr__(self) -> str:
        """The finding in a line."""
        return f"Calibration({self.model_label}: {self.verdict})"

    @property
    def chance(self) -> str:
        """How many pairs there are to work on: the first thing to know."""
        n, m = self.alone.eligible
        return f"eligible pairs: {n:,} of {m:,} (head, sample) pairs have a sink to calibrate ({n / m:.1%})"

    @property
    def verdict(self) -> str:
        """The finding in a line, after what there was to work on; what was not found comes first."""
        a, j = self.alone, self.judgement
        if not a.applicable:
            return f"{self.chance}: not applicable"
        if j.chosen is None:
            return f"{self.chance}; NOT shown of any head that calibrating it raises the margin (q ≤ {a.level:g}, n = {a.n})"
        heads = f"{len(a.helpful)} of {len(a.heads)} heads chosen"
        return f"{self.chance}; {heads}; on {j.n} held-out samples {self._mended()}, and {self._shown()}"

    def _mended(self) -> str:
        """What people ask for first; the primary outcome may move where no answer does."""
        j = self.judgement
        assert j.chosen is not None
        figures = f"{j.accuracy:.1%} → {j.chosen.accuracy:.1%}, McNemar p = {j.chosen.exact:.2g}"
        if j.chosen.exact > 0.05:
            return f"accuracy is NOT shown to change ({figures})"
        return f"accuracy {'rises' if j.chosen.mended > j.chosen.spoiled else 'falls'} ({figures})"

    @property
    def helps(self) -> bool:
        """Whether the list gains on held-out samples, and more than the controls as far as so many can tell."""
        j = self.judgement
        if j.chosen is None or j.p is None:
            return False
        least = 1 / (1 + len(j.controls)) if j.enumerated else 0.0  # no more lists exist, so no smaller p
        return j.chosen.gain > 0 and j.chosen.p <= 0.05 and j.p <= max(0.05, least)

    def _shown(self) -> str:
        j = self.judgement
        assert j.chosen is not None
        gain = f"{j.chosen.gain:+.3f} nats, sign flips p = {j.chosen.p:.2g}"
        if j.p is None:
            return f"the list has no layer-matched control: not validated ({gain})"
        control = f"{len(j.controls)} matched {'lists, all there are' if j.enumerated else 'random lists'}"
        word = "the margin rises more than with" if self.helps else "the margin is NOT shown to rise more than with"
        few = ", the least that so few can give" if self.helps and j.p > 0.05 else ""
        return f"{word} {control} ({gain}; against them p = {j.p:.3f}{few})"

    @property
    def command(self) -> str:
        """The command line that gives the same numbers."""
        from workbench.options import command_line

        return command_line(COMMAND, self.config, always=("model", "task"), never=ASIDE)

    def rows(self) -> list[dict[str, Any]]:
        """One row a head, as in heads.parquet."""
        a, c = self.alone, self.config
        base = float((a.margin > 0).mean())
        return [
            {"model": self.model.name, "layer": layer, "head": head, "n": a.n, "acc_base": base,
             "acc_cal": float((a.margin + a.change[i] > 0).mean()), "gain": float(a.gain[i]), "p": float(a.p[i]),
             "q": float(a.q[i]), "mended": int(a.mended[i]), "spoiled": int(a.spoiled[i]),
             "mcnemar_p": float(a.exact[i]), "mcnemar_q": float(a.exact_q[i]), "parked": float(a.parked[i]), "a": c.a,
             "absolute": c.absolute, "rule": c.rule, "beta": c.beta, "exempt": list(c.exempt),
             "receivers": c.receivers, "seed": c.seed}
            for i, (layer, head) in enumerate(a.heads)
        ]  # fmt: skip

    def about_list(self) -> dict[str, Any]:
        """What the list of chosen heads is good for."""
        c, m = self.config, self.model
        names = ("task", "beta", "rule", "a", "absolute", "exempt", "receivers", "seed")
        return {
            "model": m.name, "config_hash": m.config_hash, "weights": m.weights, "verdict": self.verdict,
            "calibrate": {name: getattr(c, name) for name in names},
        }  # fmt: skip

    def top(self) -> list[dict[str, Any]]:
        """Heads by the size of their effect, the largest gain first."""
        return sorted(self.rows(), key=lambda row: (-row["gain"], row["layer"], row["head"]))

    def report(self, path: str | Path | None = None) -> str:
        """The report as one offline HTML page; written to `path` where one is given."""
        from workbench_analyses.calibration.report import report

        page = report(self)
        if path is not None:
            atomic.write_bytes(Path(path), page.encode())
        return page

    def plot(self) -> Any:
        """Every head's effect against how sure it is, as a Plotly figure."""
        from workbench_analyses.calibration.report import volcano

        return volcano(self).plotly()

    def summary(self) -> dict[str, Any]:
        """The experiment as plain values."""
        a, j = self.alone, self.judgement
        return {
            "model": self.model_label, "verdict": self.verdict, "eligible": a.eligible[0], "pairs": a.eligible[1],
            "layers": list(self.layers), "samples": a.n, "accuracy": float((a.margin > 0).mean()), "power": a.power,
            "chosen": [list(h) for h in a.helpful], "harmful": [list(h) for h in a.harmful],
            "top": self.top()[:TOP],
            "held_out": {
                "samples": j.n, "accuracy": j.accuracy, "chosen": j.chosen and j.chosen.__dict__,
                "random": [c.__dict__ for c in j.controls], "all_random_lists": j.enumerated, "p": j.p,
                "all_heads": j.every.__dict__,
            },
            "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def _repr_html_(self) -> str:
        """The notebook output: verdict and where there are sinks to calibrate."""
        from workbench.views.notebook import mini_html

        about = f"{self.model_label}. {self.verdict}."
        return mini_html(
            self.alone.map(self.alone.parked, self.n_layers), "share of prompts with a sink", caption=about
        )

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.calibration.terminal import terminal

        return terminal(self)
