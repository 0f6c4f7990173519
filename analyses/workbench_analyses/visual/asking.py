"""What a model says of the report set, unit by unit: captions, answers to POPE's questions, margins about partners."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench import images
from workbench.budget import at_most
from workbench.models import Model
from workbench.progress import Report
from workbench.runs import Remember
from workbench.tasks.chair import Caption
from workbench.tasks.pope import STRATEGIES
from workbench.tasks.scene_answers import answers, describe, yes_margins
from workbench.tasks.wording import describing
from workbench.visual.sizes import telling_bytes
from workbench_analyses.visual.behaviour import Said, partners, questions_of
from workbench_analyses.visual.sights import Sets, Sight

UNIT = 256
"""Captions, or questions, in a unit of work."""


def said_of_report_set(config: Any, model: Model, sets: Sets, remember: Remember, report: Report) -> Said:
    """Everything that `behaviour` looks at."""
    shown, captions, replies = sets["report"], {}, {}
    steps = 2 * len(shown) + (2 if sets.rendered else 0)
    for i, (kind, sights) in enumerate(shown.items()):
        captions[kind] = _captions(config, model, kind, sights, remember)
        report(2 * i + 1, steps)
        replies[kind] = _answers(config, model, kind, sets, remember)
        report(2 * i + 2, steps)
    if not sets.rendered:
        return Said(captions, replies, None, None)
    margins = []
    for name, rows in zip(("present", "absent"), partners(sets), strict=True):
        margins.append((rows, _margins(config, model, name, rows, remember)))
        report(steps - 2 + len(margins), steps)
    return Said(captions, replies, *margins)


def _captions(config: Any, model: Model, kind: str, sights: tuple[Sight, ...], remember: Remember) -> list[Caption]:
    out: list[Caption] = []
    for start in range(0, len(sights), UNIT):
        part = sights[start : start + UNIT]

        def work(part: tuple[Sight, ...] = part) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            told = at_most(
                model, "captions", min(config.batch, len(part)), _bytes(config, model, part[0]),
                lambda n: describe(model, part, batch=n, longest=config.most),
            )  # fmt: skip
            return {}, {"texts": [c.text for c in told]}

        texts = remember(f"captions-{kind}-{start}", work)[1]["texts"]
        out += [Caption(s.name, text) for s, text in zip(part, texts, strict=True)]
    return out


def _answers(config: Any, model: Model, kind: str, sets: Sets, remember: Remember) -> dict[tuple[str, str], str]:
    """Each question once, though several strategies ask it."""
    sights = {s.name: s for s in sets["report"][kind]}
    every = dict.fromkeys((q.image, q.object) for s in STRATEGIES for q in questions_of(sets, kind, s))
    asked, out = [(sights[image], word) for image, word in every], []
    for start in range(0, len(asked), UNIT):
        part = asked[start : start + UNIT]

        def work(part: list[tuple[Sight, str]] = part) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            size = min(2 * config.batch if config.batch > 1 else 1, len(part))
            each = _bytes(config, model, part[0][0])
            return {}, {"texts": at_most(model, "answers", size, each, lambda n: answers(model, part, batch=n))}

        out += remember(f"answers-{kind}-{start}", work)[1]["texts"]
    return dict(zip(every, out, strict=True))


def _margins(config: Any, model: Model, name: str, rows: list[tuple[Sight, str]], remember: Remember) -> list[float]:
    def work() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        each = _bytes(config, model, rows[0][0])
        found = at_most(
            model, "answers", min(2 * config.batch, len(rows)), each, lambda n: yes_margins(model, rows, batch=n)
        )
        return {"margins": found.double().numpy()}, {}

    return remember(f"margins-{name}", work)[0]["margins"].tolist()


def _bytes(config: Any, model: Model, sight: Sight) -> int:
    """What a caption of a picture takes while it is told; an answer takes no more."""
    asked = images.prompt(model, describing(model), sight.image)
    return telling_bytes(model, asked.tokens.shape[1], config.most)
