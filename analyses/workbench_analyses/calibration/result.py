"""The result of a calibration: what was measured, and what that says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.controls import Heads
from workbench.head_lists import FIRST_LAYER
from workbench.heads import Head, ModelIdentity
from workbench.reported import OfCommand
from workbench_analyses.calibrate_heads import COMMAND, CalibrateHeads
from workbench_analyses.calibration.measured import Alone, Given, Judgement

APPLICABLE = 0.05
"""Share of (head, sample) pairs with a sink below which calibration has next to nothing to work on."""
TOP = 10


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(OfCommand):
    """What calibrating sinks does to a task's answers. measured: every head alone, or a list that was given."""

    typed = COMMAND
    always = ("model", "task")

    config: CalibrateHeads
    model_label: str
    model: ModelIdentity
    layers: tuple[int, ...]
    n_layers: int
    measured: Alone | Given
    judgement: Judgement
    cost: dict[str, float]
    path: str | None = None

    @property
    def alone(self) -> Alone:
        """Every head alone. Raises ValueError where a list was given, for then no head was."""
        if isinstance(self.measured, Given):
            raise ValueError("a list was given, so no head was calibrated alone")
        return self.measured

    @property
    def heads(self) -> Heads:
        """The list that is judged: the heads that help, or those that were given."""
        return self.measured.heads if isinstance(self.measured, Given) else self.measured.helpful

    @property
    def tried(self) -> Heads:
        """All heads of the layers that were looked at."""
        return self.measured.tried if isinstance(self.measured, Given) else self.measured.heads

    @property
    def parked(self) -> Float[np.ndarray, "layers heads"]:
        """Share of prompts in which each head has a sink; NaN in layers that were not looked at."""
        out = np.full((self.n_layers, 1 + max(head for _, head in self.tried)), np.nan)
        for head, value in zip(self.tried, self.measured.parked, strict=True):
            out[head] = value
        return out

    @property
    def chance(self) -> str:
        """How many pairs there are to work on: the first thing to know."""
        n, m = self.measured.eligible
        of = " of the list" if isinstance(self.measured, Given) else ""
        return f"eligible pairs: {n:,} of {m:,} (head, sample) pairs{of} have a sink to calibrate ({n / m:.1%})"

    @property
    def verdict(self) -> str:
        """The finding in a line, after what there was to work on; what was not found comes first."""
        found, j = self.measured, self.judgement
        if found.eligible[0] < APPLICABLE * found.eligible[1]:
            return f"{self.chance}: not applicable"
        if isinstance(found, Given):
            heads = f"a list of {len(found.heads)} heads was given"
        elif j.chosen is None:
            few = f"(q ≤ {found.level:g}, n = {found.n})"
            return f"{self.chance}; NOT shown of any head that calibrating it raises the margin {few}"
        else:
            heads = f"{len(found.helpful)} of {len(found.heads)} heads chosen"
        return f"{self.chance}; {heads}; on {j.n} held-out samples {self._mended()}, and {self._shown()}"

    @property
    def unlisted(self) -> str | None:
        """Why there is no list in the authors' layout, if so."""
        low = [str(Head(*h)) for h in self.heads if h[0] < FIRST_LAYER]
        if not low:
            return None
        return (
            f"no head_list_act.json: the authors' layout begins at layer {FIRST_LAYER} and has no place for "
            f"{', '.join(low)}; head_list.json holds them"
        )

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

    def rows(self) -> list[dict[str, Any]]:
        """One row a head that was calibrated alone, as in heads.parquet."""
        if isinstance(self.measured, Given):
            return []
        a, c = self.measured, self.config
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
        """What the list is good for."""
        c, m = self.config, self.model
        names = ("task", "beta", "rule", "a", "absolute", "exempt", "receivers", "seed")
        return {
            "model": m.name, "config_hash": m.config_hash, "weights": m.weights, "verdict": self.verdict,
            "calibrate": {name: getattr(c, name) for name in names},
        }  # fmt: skip

    def top(self) -> list[dict[str, Any]]:
        """Heads by the size of their effect, the largest gain first."""
        return sorted(self.rows(), key=lambda row: (-row["gain"], row["layer"], row["head"]))

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.calibration.report import report

        return report(self)

    def plot(self) -> Any:
        """Every head's effect against how sure it is, as a Plotly figure."""
        from workbench_analyses.calibration.report import volcano

        return volcano(self).plotly()

    def summary(self) -> dict[str, Any]:
        """The experiment as plain values."""
        j, (eligible, pairs) = self.judgement, self.measured.eligible
        return {
            "model": self.model_label, "verdict": self.verdict, "eligible": eligible, "pairs": pairs,
            "layers": list(self.layers), **self._measured(),
            "held_out": {
                "samples": j.n, "accuracy": j.accuracy, "chosen": j.chosen and j.chosen.__dict__,
                "random": [c.__dict__ for c in j.controls], "all_random_lists": j.enumerated, "p": j.p,
                "all_heads": j.every.__dict__,
            },
            "note": self.unlisted, "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def _measured(self) -> dict[str, Any]:
        a = self.measured
        if isinstance(a, Given):
            return {"given": [list(h) for h in a.heads], "source": a.source}
        return {
            "samples": a.n, "accuracy": float((a.margin > 0).mean()), "power": a.power,
            "chosen": [list(h) for h in a.helpful], "harmful": [list(h) for h in a.harmful], "top": self.top()[:TOP],
        }  # fmt: skip

    def _repr_html_(self) -> str:
        """The notebook output: verdict and where there are sinks to calibrate."""
        from workbench.views.notebook import mini_html

        about = f"{self.model_label}. {self.verdict}."
        return mini_html(self.parked, "share of prompts with a sink", caption=about)

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.calibration.terminal import terminal

        return terminal(self)
