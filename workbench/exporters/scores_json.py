"""The published retrieval-head score file: `{"layer-head": [score of each sample]}`, with a side-car for the rest."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import BadInput
from workbench.exporters import Exporter
from workbench.heads import HeadScores
from workbench.scores_io import ABOUT, SCORES, read_published, score_files, write_files


def write(scores: HeadScores, folder: Path) -> list[Path]:
    """Write scores.json (published layout) and scores.meta.json (model, method, groups); all of it comes back.

    Raises BadInput where a scores.json of another origin, one without side-car, would be replaced.
    """
    files = {name: text.encode() for name, text in score_files(scores).items()}
    target = folder / SCORES
    if target.exists() and not (folder / ABOUT).exists() and target.read_bytes() != files[SCORES]:
        raise BadInput(f"{target} exists and is of another origin: name another folder with out=")
    return write_files(folder, files)


EXPORTER = Exporter(
    name="scores-json",
    help="per-sample scores in the published layout (Retrieval_Head, HeadKV), query heads",
    marker=SCORES,
    write=write,
    read=read_published,
)
