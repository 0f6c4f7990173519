"""Every rule on the same cases: chunk by chunk, so that prompts are read once and one chunk's are held at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from workbench.budget import in_parts
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.policies.setting import Setting
from workbench.progress import Report
from workbench.shards import depending
from workbench.simulation.cases import Case
from workbench.simulation.sizes import bytes_of_case
from workbench_analyses.kv.asking import Chunk
from workbench_analyses.kv.measured import QUALITY, Point
from workbench_analyses.windows.checked import FIELDS, Checked
from workbench_analyses.windows.rules import Rule

Arrays = Mapping[str, np.ndarray]


def checked(
    job: Job, every: Sequence[Rule], asked: Mapping[str, list[Case]], settings: Mapping[str, Setting], report: Report
) -> list[Checked]:
    """What each rule gives on all cases, and its deals on the needles."""
    found: list[dict[str, list[Arrays]]] = [{kind: [] for kind in asked} for _ in every]
    before, total = 0, len(every) * sum(map(len, asked.values()))
    for kind, group in asked.items():

        def some(rows: slice, kind: str = kind, group: list[Case] = group, before: int = before) -> None:
            chunk, name = Chunk(job.model, group[rows]), digest([c.tokens for c in group[rows]])[:8]
            for i, rule in enumerate(every):
                report(len(every) * (before + rows.start) + i * (rows.stop - rows.start), total)
                if sum(len(part["quality"]) for part in found[i][kind]) >= rows.stop:
                    continue  # asked before memory ran out with more cases at a time
                work = lambda r=rule: (_ask(r, chunk, settings[kind], kind), {})  # noqa: E731
                unit = depending(f"{rule.unit}-{kind}-{name}", rule.looks_at(settings[kind]))
                found[i][kind].append(job.remember(unit, work)[0])

        in_parts(job.model, "simulation", len(group), bytes_of_case(job.model, group), some, most=job.config.batch)
        before += len(group)
    report(total, total)
    return [_put_together(job, r, own, settings["needle"]) for r, own in zip(every, found, strict=True)]


def _ask(rule: Rule, chunk: Chunk, setting: Setting, kind: str) -> Arrays:
    """One unit: the rule, and with needles its deals, [deals, cases, recall and KL]."""
    deals = rule.dealt if kind == "needle" else ()
    columns = [QUALITY.index(field) for field in FIELDS]
    dealt = [chunk.ask(other(setting))["quality"][:, columns] for other in deals]
    shape = (len(dealt), len(chunk.batch.cases), len(columns))
    return {**chunk.ask(rule.make(setting)), "dealt": np.array(dealt).reshape(shape)}


def _put_together(job: Job, rule: Rule, own: Mapping[str, Sequence[Arrays]], setting: Setting) -> Checked:
    quality, costs = (
        {kind: np.concatenate([p[name] for p in parts]) for kind, parts in own.items()} for name in ("quality", "costs")
    )
    told = dict(rule.make(setting).constants)
    point = Point(rule.name, None, "full", True, told, quality, costs, seed=job.config.seed)
    dealt: Float[np.ndarray, "deals cases fields"] = np.concatenate([p["dealt"] for p in own["needle"]], 1)
    return Checked(rule.name, rule.tolerance, point, tuple((float(a), float(b)) for a, b in dealt.mean(1)))
