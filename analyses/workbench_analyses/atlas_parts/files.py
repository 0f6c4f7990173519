"""What an atlas leaves in its run folder besides the report and the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.runs import Run
from workbench.scores_io import score_files

if TYPE_CHECKING:
    from workbench_analyses.atlas_parts.result import HeadAtlas


def files(result: HeadAtlas, run: Run) -> None:
    """Published layout of the primary score, tidy table, all scores as JSON, top keys of texts, profiles and pictures."""
    for name, text in score_files(result.primary).items():
        run.write_text(name, text)
    run.write_table("scores.parquet", result.to_frame())
    metrics = result.metrics()
    run.write_json("metrics.json", metrics.to_json())
    if metrics.texts:
        run.write_tensors("texts.safetensors", metrics.arrays())
    maps = {}
    for i, side in enumerate(result.sides):
        before = "also." if i else ""
        maps |= {f"{before}profile.{v}": x for v, x in side.profiles.items()}
        maps |= {f"{before}picture.{j}": p.levels for j, p in enumerate(side.pictures)}
        maps |= {} if side.raised is None else {f"{before}raised": side.raised.ids}
    run.write_tensors("maps.safetensors", maps)
