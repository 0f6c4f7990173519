"""The published retrieval-head score file: `{"layer-head": [score of each sample]}`, with a side-car for the rest."""

from __future__ import annotations

from pathlib import Path

from workbench.exporters import Exporter, Written
from workbench.exporters.provenance import Shape
from workbench.heads import HeadScores
from workbench.scores_io import ABOUT, SCORES, read_published, score_files


def write(scores: HeadScores) -> Written:
    """scores.json (published layout) and scores.meta.json (model, method, groups); all of it comes back."""
    return Written({name: text.encode() for name, text in score_files(scores).items()})


def read(path: Path, shape: Shape) -> HeadScores:
    """Scores with their samples; without the side-car the model is not known."""
    return read_published(path)


EXPORTER = Exporter(
    name="scores-json",
    help="per-sample scores of query heads: Retrieval_Head, HeadKV",
    marker=SCORES,
    write=write,
    read=read,
    side_car=ABOUT,
)
