"""What the bundled `llava` must show on scenes that it has not seen: it sees, and habit makes it invent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.tasks import scene_observer
from workbench.tasks.chair import chair, judge
from workbench.tasks.pope import STRATEGIES, Answer, Frequencies, pope, questions
from workbench.tasks.scene_answers import describe, yes_margins
from workbench.tasks.scene_objects import OBJECTS
from workbench.tasks.scenes import Scene, scenes


def figures(model: Any, n: int, part: str = "report", seed: int = 0) -> dict[str, Any]:
    """Over n ordinary and n counterfactual scenes of a set, shares of one.

    pope: by kind of scene and strategy. chair: by kind. partner: of the questions about a leader's absent partner, how
    many the model and the ideal observer answer with yes; auc: of the margin between present and absent partners.
    """
    ordinary, broken = (scenes(part, n, seed, counterfactual) for counterfactual in (False, True))
    habit = Frequencies.of(s.objects for s in ordinary)
    kinds = {"ordinary": ordinary, "counterfactual": broken}
    return {
        "pope": {kind: {s: _pope(model, shown, habit, s) for s in STRATEGIES} for kind, shown in kinds.items()},
        "chair": {kind: _chair(model, shown) for kind, shown in kinds.items()},
        "partner": _partner(model, ordinary, broken),
    }


def _pope(model: Any, shown: Sequence[Scene], habit: Frequencies, strategy: str) -> dict[str, Any]:
    by_name = {s.name: s for s in shown}
    asked = questions({s.name: s.objects for s in shown}, habit, strategy)
    margins = yes_margins(model, [(by_name[q.image], q.object) for q in asked])
    return pope([Answer(bool(m > 0), True) for m in margins], asked).summary()


def _chair(model: Any, shown: Sequence[Scene]) -> dict[str, Any]:
    return chair(judge(describe(model, shown), {s.name: s.objects for s in shown})).summary()


def _partner(model: Any, ordinary: Sequence[Scene], broken: Sequence[Scene]) -> dict[str, float]:
    there = [(s, word) for s in ordinary for word in s.objects if word in OBJECTS[1::2]]
    absent = [(s, word) for s in broken for word in s.missing]
    present_margins, absent_margins = (yes_margins(model, rows).numpy() for rows in (there, absent))
    belief = dict(zip((s.name for s in broken), scene_observer.probabilities(broken), strict=True))
    ideal = np.mean([belief[s.name][OBJECTS.index(word)] > 0.5 for s, word in absent])
    false = float((absent_margins > 0).mean())
    return {
        "n": len(absent), "false_yes": false, "ideal_false_yes": float(ideal), "excess": false - float(ideal),
        "hits": float((present_margins > 0).mean()),
        "auc": float((present_margins[:, None] > absent_margins[None]).mean()),
    }  # fmt: skip
