"""The visual scan, step by step: load, show, listen, score heads, judge interventions, save."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from workbench import images, visual
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.jobs import Job
from workbench.models import Model
from workbench.runs import Run
from workbench.scores_io import score_files
from workbench.tasks.wording import describing
from workbench.visual.looks import Looks, look_at
from workbench_analyses.visual import other_seeds
from workbench_analyses.visual.agreement import agreements
from workbench_analyses.visual.asking import said_of_report_set
from workbench_analyses.visual.behaviour import behaviour
from workbench_analyses.visual.measuring import Measured, check_room, measured
from workbench_analyses.visual.result import VisualScan
from workbench_analyses.visual.seeing import check_shown
from workbench_analyses.visual.sights import Sets, Sight, sets
from workbench_analyses.visual_heads import ScanVisual

if TYPE_CHECKING:
    from workbench_analyses.visual.table_result import HonestTable

SHOWN = 4
"""Pictures over which heads' attention is laid, those with an invented word first."""


def run_scan(config: ScanVisual, model: Model | None = None) -> VisualScan:
    """The whole scan; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    check_shown(job.model)
    shown, others = sets(config), other_seeds.loaded(config, job.model)
    weights = [one.identity() for one in others]
    with job.running("scan-visual", {**config.question_asked(), "shown": hash_of(shown), "others": weights}):
        for line in shown.skipped:
            job.stages.note(f"note: {line}: skipped")
        scan = _scan(job, shown, others)
        job.keep(scan, files)
    return scan


def hash_of(shown: Sets) -> str:
    """What is shown in which set, to the byte, what is said to be in it, by which words and habits, in a few letters."""
    told = {
        p: {kind: [[s.name, s.digest, *s.objects] for s in group] for kind, group in shown[p].items()} for p in shown.of
    }
    every = [told, shown.words.objects, shown.habit.alone, shown.habit.together]
    return hashlib.sha256(json.dumps(every, sort_keys=True).encode()).hexdigest()[:16]


def _scan(job: Job[ScanVisual], shown: Sets, others: list[Model]) -> VisualScan:
    config, model = job.config, job.model
    check_room(config, model, shown["score"][shown.kinds[0]][0])
    said = said_of_report_set(config, model, shown, job.remember, job.stages.stage("captions and answers"))
    acts, heard = behaviour(shown, said), job.seconds
    heads = measured(config, model, shown, job.remember, job.stages.stage("scores of heads"))
    scored = job.seconds
    table: HonestTable | str = "not validated: proof=none"
    if config.proof != "none":
        table = _table(job, heads, shown, others)
    cost = job.cost(
        behaviour_seconds=heard, score_seconds=scored - heard, table_seconds=job.seconds - scored
    )  # fmt: skip
    return VisualScan(
        acts, heads, agreements(heads.scores), table, _looks(job, heads, shown), shown.source, shown.skipped,
        {p: {kind: len(group) for kind, group in shown[p].items()} for p in shown.of}, config, model.label, cost, job.path,
    )  # fmt: skip


def _table(job: Job[ScanVisual], heads: Measured, shown: Sets, others: list[Model]) -> HonestTable | str:
    """The honest table, or why there is none."""
    from workbench_analyses.visual.honest_table import honest_table
    from workbench_analyses.visual.table_config import TableConfig

    size = job.config.batch  # the table collects no statistics, so that more pictures fit
    options = TableConfig(
        batch=3 * size if size > 1 else 1, longest=job.config.most, seed=job.config.seed, tau=job.config.tau
    )  # fmt: skip
    try:
        beside = other_seeds.scored(job, others, shown)
        report = job.stages.stage("interventions")
        return honest_table(job.model, heads.scores, shown, options, job.remember, report, beside)
    except BadInput as error:
        return f"not validated: {error}"


def _looks(job: Job[ScanVisual], heads: Measured, shown: Sets) -> list[Looks] | str:
    """What heads looked at in a few pictures of the score set, or why that is not known."""
    inventing = {w.picture for w in heads.words if w.invented}
    every = [s for kind in reversed(shown.kinds) for s in shown["score"][kind] if heads.captions[s.name]]
    chosen = sorted(every, key=lambda s: s.name not in inventing)[:SHOWN]
    try:
        return [look for s in chosen for look in _look(job, s, shown)]
    except BadInput as error:
        return str(error)


def _look(job: Job[ScanVisual], sight: Sight, shown: Sets) -> list[Looks]:
    image = sight.image
    told = visual.tell(job.model, images.prompt(job.model, describing(job.model), image), job.config.most)
    return look_at(job.model, told, [image], [sight.objects], [sight.name], words=shown.words)


def files(scan: VisualScan, run: Run) -> None:
    """What the run gave: VHD in the published score layout, all scores, tidy tables."""
    import pandas as pd

    scores: dict[str, HeadScores] = dict(scan.scores)
    for name, text in score_files(scores["vhd"]).items():
        run.write_text(name, text)
    for name, held in scores.items():
        run.write_json(f"{name}.json", held.to_json())
    tables = [s.to_frame().assign(score=name) for name, s in scores.items()]
    run.write_table("scores.parquet", pd.concat(tables, ignore_index=True))
    run.write_table("words.parquet", scan.words_frame())
    run.write_table("captions.parquet", scan.captions_frame())
    if not isinstance(scan.table, str):
        run.write_table("table.parquet", scan.table.frame())
