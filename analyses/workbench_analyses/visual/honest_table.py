"""Does any intervention make the model invent less, at equal recall? Three disjoint sets of pictures.

Heads were scored on one set, strengths are chosen on another, a third is reported. Every means is a curve over its
strengths, the trivial ones too, and curves are compared where they have lost equally much recall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from workbench import visual_methods
from workbench.errors import Unsupported
from workbench.heads import HeadScores
from workbench.progress import Report
from workbench.runs import Remember, unremembered
from workbench.shards import depending
from workbench.tasks.chair import Caption, Judged, chair, judge
from workbench.tasks.object_words import Words, object_words
from workbench.tasks.pope import pope
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.saying import Said
from workbench.visual_methods.scores import CONTRAST
from workbench.visual_methods.trivial import UNSURE, biases, ended, lengths, truncated, without_unsure
from workbench_analyses.visual.arms import Arms, parsed, told
from workbench_analyses.visual.controls import controlled
from workbench_analyses.visual.matched import Curve, compare
from workbench_analyses.visual.table_config import TableConfig
from workbench_analyses.visual.table_parts import ModelTable, Row
from workbench_analyses.visual.table_result import HonestTable

CUT, END, UNSURE_WORDS = "cut short", "sooner end", "no unsure words"
NEUTRAL = {CUT: float("inf"), END: 0.0, UNSURE_WORDS: 0.0}
"""Trivial means and the strength of each that changes nothing."""
Told = dict[str, Any]
"""Captions of one arm and, where they were asked, answers."""


def honest_table(
    model: Any,
    scores: Mapping[str, HeadScores],
    sets: Any,
    config: TableConfig | None = None,
    remember: Remember = unremembered,
    report: Report | None = None,
    others: Sequence[tuple[Any, Mapping[str, HeadScores]]] = (),
) -> HonestTable:
    """The table of a model, and of others that were trained from other seeds.

    scores: by name, see `visual_methods.scores`. sets: sets["choose"] and sets["report"] give pictures by kind, things with
    `name`, `image` and `objects`; `habit` and `words`, if it has them, are POPE's counts and the table of objects.
    remember: stores units of work. others: further models with their scores. A method whose scores are missing is left out,
    with the reason. Raises BadInput for it where it was asked for by name.
    """
    config = config or TableConfig()
    models = [(model, scores), *others]
    methods = _methods(config)
    steps = _Steps(report, len(models) * (1 + sum(len(m.strengths) for m in methods)))
    tables = []
    for i, (one, own) in enumerate(models):
        work = _prefixed(remember, f"table-{i}")
        name = one.name if len(models) == 1 else f"{one.name}, training {i + 1}"
        tables.append(_table(one, name, Arms(one, own, sets, config), methods, work, steps))
    return HonestTable(tuple(tables), config, {kind: len(group) for kind, group in sets["report"].items()})


def _methods(config: TableConfig) -> list[VisualMethod]:
    if config.methods:
        return [visual_methods.named(name) for name in config.methods]
    return list(visual_methods.discover().values())


def _table(
    model: Any, name: str, arms: Arms, methods: list[VisualMethod], remember: Remember, steps: _Steps
) -> ModelTable:
    words = getattr(arms.sets, "words", None) or object_words()
    base = _plain(arms, remember)
    found = _trivial(base, words)
    steps.skip(1)
    left_out: dict[str, str] = {}
    for method in methods:
        try:
            _check_scores(arms, method)
            found[method.name] = _curve(arms, method, remember, steps)
        except Unsupported as error:
            left_out[method.name] = str(error)
            steps.skip(len(method.strengths))
    plain = {"captions": [s.text for s in base], "answers": _answers(arms, remember)}
    judged = _judged(arms, found, plain, words)
    beside = {m.name: m.beside for m in methods}
    compared = {
        kind: compare(_curves(arms, judged, kind, beside), arms.config.drops, arms.config.draws, arms.config.seed)
        for kind in arms.sets["report"]
    }
    used = [m for m in methods if m.name in found]
    return ModelTable(
        name, _rows(arms, judged, found, plain), compared, controlled(arms, used, compared, found, words, remember),
        {m.name: m.layers(model.n_layers) for m in used}, left_out,
        {m.name: arms.scores[CONTRAST].parameters.get("measure", "not recorded") for m in used if CONTRAST in m.needs},
    )  # fmt: skip


def _check_scores(arms: Arms, method: VisualMethod) -> None:
    """Raises Unsupported for head scores that are missing, unless methods were asked for by name: those must be there."""
    absent = [name for name in method.needs if name not in arms.scores]
    if absent and not arms.config.methods:
        raise Unsupported(f"head scores that it needs are missing: {', '.join(absent)}")


def _plain(arms: Arms, remember: Remember) -> list[Said]:
    def work() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {}, {"said": [list(astuple(s)) for s in arms.plain()]}

    return [Said(text, *map(tuple, rest)) for text, *rest in remember("plain", work)[1]["said"]]


def _answers(arms: Arms, remember: Remember) -> list[str]:
    return list(remember("plain-answers", lambda: ({}, {"answers": arms.answers(lambda _: None)}))[1]["answers"])


def _trivial(base: list[Said], words: Words) -> dict[str, dict[float, Told]]:
    """Means without a look at attention; plain captions and how sure their tokens were are all that they need."""
    texts = [s.text for s in base]
    return {
        CUT: {float(n): {"captions": [truncated(t, n) for t in texts]} for n in lengths(texts)},
        END: {b: {"captions": [ended(s, b) for s in base]} for b in biases(base)},
        UNSURE_WORDS: {p: {"captions": [without_unsure(s, p, words) for s in base]} for p in UNSURE},
    }


def _curve(arms: Arms, method: VisualMethod, remember: Remember, steps: _Steps) -> dict[float, Told]:
    out = {}
    for strength in method.strengths:
        unit = depending(f"{method.name}-{strength:g}", arms.looks_at(method))
        out[strength] = dict(remember(unit, lambda s=strength: ({}, told(arms, method, s)))[1])
        steps.step()
    return out


Key = tuple[str, float]


def _judged(arms: Arms, found: dict[str, dict[float, Told]], plain: Told, words: Words) -> dict[Key, list[Judged]]:
    """Judged captions of every arm, in the order of the pictures; the plain ones under ("", 0)."""
    every = {("", 0.0): plain, **{(m, s): t for m, held in found.items() for s, t in held.items()}}
    return {
        key: judge([Caption(p.name, t) for p, t in zip(arms.places, arm["captions"], strict=True)], arms.truth, words)
        for key, arm in every.items()
    }


def counts(judged: Sequence[Judged]) -> np.ndarray:
    """Of each caption: different objects named, those that are there, and objects that are there, [captions, 3]."""
    return np.array([[len(j.named), len(j.named & j.objects), len(j.objects)] for j in judged], dtype=int)


def _curves(arms: Arms, judged: dict[Key, list[Judged]], kind: str, beside: Mapping[str, str]) -> list[Curve]:
    rows = {
        p: [i for i, place in enumerate(arms.places) if (place.purpose, place.kind) == (p, kind)]
        for p in ("choose", "report")
    }
    held: dict[str, list[float]] = {}
    for name, strength in judged:
        held.setdefault(name, []).append(strength)
    out = []
    for name, strengths in held.items():
        if not name:
            continue
        each = [counts(judged["", 0.0]), *(counts(judged[name, s]) for s in strengths)]
        first = NEUTRAL.get(name)
        grid = (visual_methods.named(name).neutral if first is None else first, *strengths)
        part = {p: np.stack([c[rows[p]] for c in each]) for p in rows}
        out.append(Curve(name, grid, part["choose"], part["report"], first is not None, beside.get(name, "")))
    return out


def _rows(arms: Arms, judged: dict[Key, list[Judged]], found: dict[str, dict[float, Told]], plain: Told) -> list[Row]:
    out = []
    for (name, strength), held in judged.items():
        arm = found[name][strength] if name else plain
        for kind in arms.sets["report"]:
            own = [j for j, p in zip(held, arms.places, strict=True) if (p.purpose, p.kind) == ("report", kind)]
            out.append(Row(name or "plain", strength, kind, name in NEUTRAL, chair(own), *_pope(arms, arm, kind)))
    return out


def _pope(arms: Arms, arm: Told, kind: str) -> tuple[float, float]:
    pairs = [
        (a, q) for a, (k, q) in zip(parsed(arm.get("answers", [])), arms.asked, strict=False) if k == kind
    ]  # fmt: skip
    if not pairs:
        return float("nan"), float("nan")
    figures = pope([a for a, _ in pairs], [q for _, q in pairs])
    return figures.accuracy, figures.yes_ratio


class _Steps:
    """How far the arms are."""

    def __init__(self, report: Report | None, total: int) -> None:
        self.report, self.done, self.total = report, 0, total

    def step(self) -> None:
        """One arm is done."""
        self.skip(1)

    def skip(self, n: int) -> None:
        """Some arms need no work."""
        self.done += n
        if self.report:
            self.report(self.done, self.total)


def _prefixed(remember: Remember, prefix: str) -> Remember:
    def under(unit: str, work: Callable[[], Any]) -> Any:
        return remember(f"{prefix}-{unit}", work)

    return under
