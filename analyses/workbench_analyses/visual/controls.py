"""Random heads in the place of a method's, at one strength: as many in each of its layers, or as many anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.runs import Remember
from workbench.shards import depending
from workbench.tasks.chair import Caption, chair, judge
from workbench.tasks.object_words import Words
from workbench.visual_methods import CONTROLS, VisualMethod
from workbench_analyses.visual.arms import Arms
from workbench_analyses.visual.matched import Compared
from workbench_analyses.visual.table_parts import Controlled

DROP = 0.01
"""Random heads are drawn at the strength that was chosen for this loss of recall, or the nearest one."""


def controlled(
    arms: Arms, methods: list[VisualMethod], compared: Mapping[str, list[Compared]],
    found: Mapping[str, Mapping[float, Mapping[str, Any]]], words: Words, remember: Remember,
) -> list[Controlled]:  # fmt: skip
    """Every method that chooses heads, on the reported pictures of each kind. found: its own captions by strength."""
    out = []
    for method in methods if arms.config.controls else []:
        if method.heads:
            strength, chosen = chosen_strength(method, compared)
            own = _figures(arms, found[method.name][strength]["captions"], words)
            for control in CONTROLS:
                drawn = [
                    _drawn(arms, method, strength, control, i, words, remember) for i in range(arms.config.controls)
                ]
                out += [
                    Controlled(method.name, strength, k, control, own[k], tuple(d[k] for d in drawn), chosen)
                    for k in own
                ]
    return out


def chosen_strength(method: VisualMethod, compared: Mapping[str, list[Compared]]) -> tuple[float, bool]:
    """The grid strength nearest to the place that the choosing pictures chose; the middle one where none helped.

    And whether one was chosen. Where kinds differ, that of the last kind: counterfactual scenes, on which a model
    invents most.
    """
    held = [c for c in list(compared.values())[-1] if c.method == method.name]
    place = min(held, key=lambda c: abs(c.drop - DROP)).place
    n = len(method.strengths)
    return method.strengths[n // 2 if place <= 0 else min(n, max(1, round(place))) - 1], place > 0


def _drawn(
    arms: Arms, method: VisualMethod, strength: float, control: str, draw: int, words: Words, remember: Remember
) -> dict[str, tuple[float, float]]:
    seed = arms.config.seed + draw

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {"captions": arms.captions(arms.edits(method, strength, control, seed), "report")}

    unit = depending(f"{method.name}-{strength:g}-{control}-{seed}", arms.looks_at(method))
    return _figures(arms, remember(unit, work)[1]["captions"], words)


def _figures(arms: Arms, captions: Sequence[str], words: Words) -> dict[str, tuple[float, float]]:
    """Share of invented objects and recall, by kind."""
    out = {}
    for kind in arms.sets["report"]:
        said = [
            Caption(p.name, text)
            for p, text in zip(arms.places, captions, strict=True)
            if (p.purpose, p.kind) == ("report", kind)
        ]
        found = chair(judge(said, arms.truth, words))
        out[kind] = found.chair_i_distinct, found.recall
    return out
