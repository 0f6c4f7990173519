"""Time of the retrieval scan against its peers. Run: python tests/benchmarks/retrieval_scan.py [tiny]

Every comparison first asserts that both sides give equal scores on its samples, then times them in turn. The peers
compute no QRHead, so what is compared is the scan without it ("same scores"); the scan as the command does it, QRHead
besides, is a row of its own against the same runs of the peer. Figures are kept as they come, so a run that is cut off
keeps those it had (`complete` is then false). `tiny` runs everything at small sizes and keeps nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import builds
import measure
import numpy as np
import torch
from peers import eager_bridge, flash_then_eager
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.probes.retrieval import score_block, score_sample
from workbench.reference_models import catalogue
from workbench.tasks.needle import Assembler, answer_ends, blocks

FIVE = tuple(np.linspace(0, 100, 5))
TEN = tuple(np.linspace(0, 100, 10))
GRID = (256, 512, 1024)
SAME, MORE = "same scores", "with QRHead"
Side = Callable[[], list[Any]]


@dataclass(frozen=True)
class Comparison:
    """What is timed together. target: of the ratio of "same scores"."""

    model: str
    peer: str  # flash_then_eager, or a variant of eager_bridge
    ours: str  # alone: a forward a sample; shared: the haystack of a block once
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    target: float | None
    repetitions: int = measure.LEAST

    @property
    def decodes(self) -> bool:
        """Whether the peer is the one that decodes token by token, which is timed with QRHead and its bound, too."""
        return self.peer == "flash_then_eager"

    def tiny(self) -> Comparison:
        """The same at sizes of a test."""
        return replace(self, lengths=(128,), depths=(0.0, 100.0), repetitions=measure.LEAST)


COMPARISONS = (
    Comparison("llama", "flash_then_eager", "alone", (1024,), FIVE, 1.5, 9),
    Comparison("llama", "flash_then_eager", "shared", GRID, FIVE, 2.5, 7),
    Comparison("llama", "flash_then_eager", "shared", GRID, TEN, 2.5, 7),
    Comparison("llama", "cached", "alone", (1024,), (0, 50, 100), 5.0),
    Comparison("llama", "streamed", "alone", (1024,), (0, 50, 100), 5.0),
    Comparison("llama", "cached", "alone", (2048,), (50,), 5.0),
    Comparison("llama", "streamed", "alone", (2048,), (50,), 5.0),
    Comparison("wide", "flash_then_eager", "alone", (1024,), FIVE, 1.5),
    Comparison("wide", "flash_then_eager", "shared", GRID, FIVE, 2.5),
    Comparison("wide", "cached", "alone", (1024,), (50,), 5.0),
    Comparison("wide", "streamed", "alone", (1024,), (50,), 5.0),
    Comparison("wide", "cached", "alone", (2048,), (50,), 5.0),
    Comparison("wide", "streamed", "alone", (2048,), (50,), 5.0),
    Comparison("random", "flash_then_eager", "alone", (1024,), (50,), None),
)


class Bench:
    """One model as each side wants it: the same float32 weights, loaded three times."""

    def __init__(self, place: str) -> None:
        self.model = wb.load(place)
        folder = catalogue.folder(place) if place in catalogue.BUNDLED else place
        self.plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.bridge = wb.load(place).bridge  # never run through the seam
        self.stops = answer_ends(self.model.tokenizer, self.model.stop_tokens)

    def sides(self, c: Comparison) -> dict[str, Side]:
        """Peer and ours as calls that give the scores of the same samples, by name."""
        units = list(blocks(Assembler(self.model.tokenizer), c.lengths, c.depths, 1, seed=3))
        same = [replace(u, samples=[replace(s, null=()) for s in u.samples]) for u in units]
        samples = [s for unit in same for s in unit.samples]
        score = eager_bridge.VARIANTS.get(c.peer, flash_then_eager.score)
        theirs = self.bridge if c.peer in eager_bridge.VARIANTS else self.plain
        sides: dict[str, Side] = {
            "peer": lambda: [score(theirs, s, self.stops) for s in samples],
            SAME: lambda: self.ours(c, same),
        }
        if c.decodes:
            sides[MORE] = lambda: self.ours(c, units)
        return sides

    def ours(self, c: Comparison, units: list[Any]) -> list[Any]:
        """Scores of all samples; QRHead where a sample knows what stands in the place of its question."""
        if c.ours == "shared":
            return [s for unit in units for s in score_block(self.model, unit, self.stops)]
        return [score_sample(self.model, s, self.stops) for unit in units for s in unit.samples]

    def prefills(self, c: Comparison) -> None:
        """The share of the peer's work that no way of scoring sample by sample can do without."""
        for unit in blocks(Assembler(self.model.tokenizer), c.lengths, c.depths, 1, seed=3):
            for sample in unit.samples:
                flash_then_eager.prefill(self.plain, sample)


def largest_difference(peer: list[Any], ours: list[Any]) -> float:
    """Of distinct and raw scores, over all samples, layers and heads; the answers must be the same tokens."""
    for a, b in zip(peer, ours, strict=True):
        assert a.response == b.response, f"the peer says {a.response}, ours {b.response}"
    pairs = [(getattr(a, n), getattr(b, n)) for a, b in zip(peer, ours, strict=True) for n in ("distinct", "raw")]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def compare(bench: Bench, c: Comparison) -> list[dict[str, Any]]:
    """Equal scores first, then the times: a row for each of ours."""
    sides = bench.sides(c)
    found = {name: side() for name, side in sides.items()}
    for name in (n for n in found if n != "peer"):
        difference = largest_difference(found["peer"], found[name])
        assert difference == 0, f"{c}: scores differ by {difference}"
        assert all(np.isfinite(s.qrhead).any() == (name == MORE) for s in found[name]), f"{c}: QRHead in {name}"
    before, works = measure.load(), dict(sides)
    if c.decodes and c.ours == "alone":
        works["bound"] = lambda: bench.prefills(c)
    times = dict(zip(works, measure.in_turn(list(works.values()), c.repetitions, warm=True), strict=True))
    rows = []
    for name in (n for n in sides if n != "peer"):
        figure, target = measure.against(times["peer"], times[name]), c.target if name == SAME else None
        if "bound" in times:  # of a scorer that costs nothing beyond the same prefill
            figure["bound"] = measure.against(times["peer"], times["bound"])["ratio"]
        rows.append({
            "model": c.model, "peer": c.peer, "work": name, "ours": c.ours, "lengths": c.lengths,
            "depths": len(c.depths), "samples": len(found[name]),
            "copies_seen": float(sum(s.raw.sum() for s in found[name])),
            "decoded_share": float(np.mean([s.decoded for s in found[name]])), "largest_difference": 0.0, **figure,
            "target": target, "met": None if target is None else figure["ratio"]["median"] >= target,
            "load_average": before,
        })  # fmt: skip
    return rows


def line(row: dict[str, Any]) -> str:
    """A figure for the terminal."""
    ratio, word = row["ratio"], {True: "met", False: "MISSED", None: "no target"}[row["met"]]
    bound = f", bound {row['bound']['median']:.2f}×" if "bound" in row else ""
    return (
        f"{row['model']:7} {row['peer']:16} {row['ours']:7} {row['work']:12} {row['lengths']} × {row['depths']}: "
        f"{ratio['median']:.2f}× ({ratio['min']:.2f}–{ratio['max']:.2f}), target {row['target']}: {word}{bound}"
    )


def main(tiny: bool = False) -> None:
    """All comparisons; prints a line each and keeps them."""
    before, figures = measure.load(), [{"complete": False}]
    with tempfile.TemporaryDirectory() as folder:
        places = {
            "llama": "llama", "wide": str(builds.wide_llama(Path(folder) / "wide")),
            "random": str(builds.random_llama(Path(folder) / "random")),
        }  # fmt: skip
        for name, place in places.items():
            bench = Bench(place)
            for c in (c for c in COMPARISONS if c.model == name):
                rows = compare(bench, c.tiny() if tiny else c)
                figures += rows
                if not tiny:
                    measure.keep("retrieval_scan", figures, before)
                for row in rows:
                    print(line(row), flush=True)
    figures[0]["complete"] = True
    if not tiny:
        print(measure.keep("retrieval_scan", figures, before))


if __name__ == "__main__":
    main("tiny" in sys.argv)
