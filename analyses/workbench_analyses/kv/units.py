"""Units of the simulation: each variant on each chunk of cases, remembered, and put together as points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from workbench.budget import in_parts
from workbench.jsonable import digest
from workbench.models import Model
from workbench.policies.setting import Setting
from workbench.progress import Report
from workbench.runs import Remember
from workbench.shards import depending
from workbench.simulation.cases import Case
from workbench.simulation.sizes import bytes_of_case
from workbench_analyses.kv.asking import Chunk
from workbench_analyses.kv.measured import QUALITY, Point
from workbench_analyses.kv.variants import Variant, controls, fits
from workbench_analyses.kv_policies import Simulate

RECALL = QUALITY.index("recall")


@dataclass
class _Gathered:
    """Parts of a variant, chunk by chunk. asked: cases of each kind so far."""

    quality: dict[str, list[np.ndarray]] = field(default_factory=dict)
    costs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    controls: list[np.ndarray] = field(default_factory=list)
    work: np.ndarray = field(default_factory=lambda: np.zeros(2))
    asked: dict[str, int] = field(default_factory=dict)


def points(
    config: Simulate, model: Model, asked: Mapping[str, list[Case]], settings: Mapping[str, Setting],
    chosen: list[Variant], remember: Remember, report: Report,
) -> list[Point]:  # fmt: skip
    """Chunk by chunk, so that the prompts of one chunk are held at a time: `batch` cases, or what the memory holds."""
    gathered, total = {variant: _Gathered() for variant in chosen}, len(chosen) * sum(map(len, asked.values()))
    before = 0
    for kind, group in asked.items():

        def some(rows: slice, kind: str = kind, group: list[Case] = group, before: int = before) -> None:
            chunk = Chunk(model, group[rows])
            name = digest([c.tokens for c in chunk.batch.cases])[:8]
            for done, variant in enumerate(chosen):
                mine, at = gathered[variant], before + rows.start
                report(len(chosen) * at + done * (rows.stop - rows.start), total)
                if mine.asked.get(kind, 0) >= rows.stop or not fits(variant, settings[kind]):
                    continue  # asked before memory ran out with more cases at a time
                ask = partial(_ask, config, variant, chunk, settings[kind], kind)
                unit = depending(f"{variant.unit}-{kind}-{name}", variant.looks_at(settings[kind]))
                _gather(mine, kind, remember(unit, lambda ask=ask: (ask(), {}))[0], rows.stop)

        in_parts(model, "simulation", len(group), bytes_of_case(model, group), some, most=config.batch)
        before += len(group)
    report(total, total)
    return [_point(config, variant, gathered[variant], settings["needle"]) for variant in chosen]


def _ask(config: Simulate, variant: Variant, chunk: Chunk, setting: Setting, kind: str) -> dict[str, np.ndarray]:
    """One unit: the variant, and with needles its random lists, [lists, cases] of recall."""
    found = chunk.ask(variant.scheme(setting))
    drawn = controls(variant, setting, config.draws, config.seed) if kind == "needle" else []
    recalls = [chunk.ask(variant.scheme(other))["quality"][:, RECALL] for other in drawn]
    return {**found, "controls": np.array(recalls).reshape(len(drawn), len(chunk.batch.cases))}


def _gather(mine: _Gathered, kind: str, arrays: Mapping[str, np.ndarray], asked: int) -> None:
    mine.asked[kind] = asked
    mine.quality.setdefault(kind, []).append(arrays["quality"])
    mine.costs.setdefault(kind, []).append(arrays["costs"])
    if kind == "needle":
        mine.controls.append(arrays["controls"])
        mine.work = mine.work + arrays["work"]


def _point(config: Simulate, variant: Variant, found: _Gathered, setting: Setting) -> Point:
    quality, costs = ({k: np.concatenate(v) for k, v in t.items()} for t in (found.quality, found.costs))
    drawn = np.concatenate(found.controls, 1)
    means = tuple(drawn.mean(1).tolist()) if drawn.size else ()
    return Point(
        variant.text, variant.budget, variant.prefill, variant.policy.exact, dict(variant.scheme(setting).constants),
        quality, costs, means, config.seed, (float(found.work[0]), float(found.work[1])),
    )  # fmt: skip
