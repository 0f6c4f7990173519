"""Time of the retrieval scan against its peers. Run: python tests/benchmarks/retrieval_scan.py

Every comparison first asserts that both sides give equal scores on its samples, then times them in turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Comparison:
    """One figure that is wanted."""

    model: str
    peer: str  # flash_then_eager, or a variant of eager_bridge
    ours: str  # alone: a forward a sample; shared: the haystack of a block once
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    target: float | None
    repetitions: int = measure.LEAST


COMPARISONS = (
    Comparison("llama", "flash_then_eager", "alone", (1024,), FIVE, 1.5, 9),
    Comparison("wide", "flash_then_eager", "alone", (1024,), FIVE, 1.5, 7),
    Comparison("llama", "flash_then_eager", "shared", GRID, FIVE, 2.5, 9),
    Comparison("llama", "flash_then_eager", "shared", GRID, TEN, 2.5, 7),
    Comparison("wide", "flash_then_eager", "shared", GRID, TEN, 2.5),
    Comparison("llama", "cached", "alone", (1024,), (0, 50, 100), 5.0),
    Comparison("llama", "streamed", "alone", (1024,), (0, 50, 100), 5.0),
    Comparison("llama", "cached", "alone", (2048,), (50,), 5.0),
    Comparison("llama", "streamed", "alone", (2048,), (50,), 5.0),
    Comparison("wide", "cached", "alone", (1024,), (50,), 5.0),
    Comparison("wide", "streamed", "alone", (1024,), (50,), 5.0),
    Comparison("wide", "cached", "alone", (2048,), (50,), 5.0),
    Comparison("wide", "streamed", "alone", (2048,), (50,), 5.0),
    Comparison("random", "flash_then_eager", "alone", (1024,), (0, 50), None),
)


class Bench:
    """One model as each side wants it: the same float32 weights, loaded three times."""

    def __init__(self, place: str) -> None:
        self.model = wb.load(place)
        folder = catalogue.folder(place) if place in catalogue.BUNDLED else place
        self.plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.bridge = wb.load(place).bridge  # never run through the seam
        self.stops = answer_ends(self.model.tokenizer, self.model.stop_tokens)

    def sides(self, c: Comparison) -> tuple[Callable[[], list[Any]], Callable[[], list[Any]], list[Any]]:
        """Peer and ours as calls that give the scores of the same samples; the samples."""
        units = list(blocks(Assembler(self.model.tokenizer), c.lengths, c.depths, 1, seed=3))
        samples = [s for unit in units for s in unit.samples]
        score = eager_bridge.VARIANTS.get(c.peer, flash_then_eager.score)
        theirs = self.bridge if c.peer in eager_bridge.VARIANTS else self.plain

        def ours() -> list[Any]:
            if c.ours == "shared":
                return [s for unit in units for s in score_block(self.model, unit, self.stops)]
            return [score_sample(self.model, s, self.stops) for s in samples]

        return lambda: [score(theirs, s, self.stops) for s in samples], ours, samples


def largest_difference(peer: list[Any], ours: list[Any]) -> float:
    """Of distinct and raw scores, over all samples, layers and heads; the answers must be the same tokens."""
    for a, b in zip(peer, ours, strict=True):
        assert a.response == b.response, f"the peer says {a.response}, ours {b.response}"
    pairs = [(getattr(a, n), getattr(b, n)) for a, b in zip(peer, ours, strict=True) for n in ("distinct", "raw")]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def compare(bench: Bench, c: Comparison) -> dict[str, Any]:
    """Equal scores first, then the times."""
    peer, ours, samples = bench.sides(c)
    theirs, own = peer(), ours()
    difference = largest_difference(theirs, own)
    assert difference == 0, f"{c}: scores differ by {difference}"
    before = measure.load()
    figure = measure.paired(peer, ours, c.repetitions)
    if c.peer == "flash_then_eager":
        alone = measure.paired(peer, lambda: [flash_then_eager.prefill(bench.plain, s) for s in samples], c.repetitions)
        figure["bound"] = alone["ratio"]  # of a scorer that costs nothing beyond the same prefill, nothing shared
    met = None if c.target is None else figure["ratio"]["median"] >= c.target
    return {
        "model": c.model, "peer": c.peer, "ours": c.ours, "lengths": c.lengths, "depths": len(c.depths),
        "samples": len(samples), "copies_seen": float(sum(s.raw.sum() for s in own)),
        "decoded_share": float(np.mean([s.decoded for s in own])), "largest_difference": difference, **figure,
        "target": c.target, "met": met, "load_average": before,
    }  # fmt: skip


def main() -> None:
    """All comparisons; prints a line each and keeps them."""
    before, figures = measure.load(), []
    with tempfile.TemporaryDirectory() as folder:
        places = {
            "llama": "llama", "wide": str(builds.wide_llama(Path(folder) / "wide")),
            "random": str(builds.random_llama(Path(folder) / "random")),
        }  # fmt: skip
        for name, place in places.items():
            bench = Bench(place)
            for c in (c for c in COMPARISONS if c.model == name):
                figures.append(compare(bench, c))
                measure.keep(
                    "retrieval_scan", [{"complete": False}, *figures], before
                )  # a run that is cut off keeps these
                ratio, word = figures[-1]["ratio"], {True: "met", False: "MISSED", None: "no target"}
                bound = f", bound {figures[-1]['bound']['median']:.2f}×" if "bound" in figures[-1] else ""
                print(
                    f"{name:7} {c.peer:16} {c.ours:7} {c.lengths} × {len(c.depths)}: {ratio['median']:.2f}× "
                    f"({ratio['min']:.2f}–{ratio['max']:.2f}), target {c.target}: {word[figures[-1]['met']]}{bound}",
                    flush=True,
                )  # fmt: skip
    print(measure.keep("retrieval_scan", figures, before))


if __name__ == "__main__":
    main()
