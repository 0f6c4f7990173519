"""Time of exact path patching and of EAP-IG against the released algorithms. Run: python tests/benchmarks/patching.py

Random weights in the shape of GPT-2 Medium, 8 prompts. The released path patching runs two hooked forwards a sender: it
is timed on SENDERS of them, spread over the layers, and extrapolated; both sides pay for their caches. Every comparison
first asserts that both give the same effects.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import builds
import measure
import torch
from peers.eap_ig import Graph
from peers.path_patching import Released
from workbench_kernels.timing import seconds

import workbench as wb

LAYERS, HEADS, BATCH, SENDERS = 24, 16, 8, 8
MOVERS = (("q", 12, 3), ("q", 13, 4), ("q", 13, 13))
ATOL = 1e-4  # float32 logits of a random model


@dataclass(frozen=True)
class Comparison:
    """One figure that is wanted. receivers: none for the logits."""

    columns: int
    receivers: tuple[tuple[str, int, int], ...]
    mlps: Any
    target: float


COMPARISONS = tuple(
    Comparison(columns, receivers, mlps, target)
    for columns in (20, 62)
    for receivers, mlps, target in (((), "frozen", 150.0), ((), "live", 40.0), (MOVERS, "live", 35.0))
)


def prompts(columns: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean and corrupted ids that differ in three columns, and answers."""
    random = torch.Generator().manual_seed(columns)
    clean = torch.randint(3, vocabulary, (BATCH, columns), generator=random)
    corrupted = clean.clone()
    corrupted[:, [3, columns // 2, columns - 1]] = torch.randint(3, vocabulary, (BATCH, 3), generator=random)
    return clean, corrupted, torch.randint(3, vocabulary, (BATCH, 2), generator=random)


@torch.no_grad()
def compare(model: Any, bridge: Any, c: Comparison) -> dict[str, Any]:
    """All senders by both; the peer's time is that of its caches and of some senders, times how many there are."""
    given = prompts(c.columns, bridge.cfg.d_vocab)
    top = max((layer for _, layer, _ in c.receivers), default=LAYERS)
    senders = [(i * (top - 1) // (SENDERS - 1), (5 * i) % HEADS) for i in range(SENDERS)]
    before, times = measure.load(), []

    def ours() -> torch.Tensor:
        return wb.patching.path_effects(model, *given, list(c.receivers) or "logits", mlps=c.mlps)

    released, found = Released(bridge, *given), ours()
    theirs = released.effects(senders, c.receivers, c.mlps == "frozen")
    own = torch.stack([found[:, layer, head] for layer, head in senders])
    difference = float((theirs - own).abs().max())
    assert difference <= ATOL, f"{c}: effects differ by {difference}"
    for turn in range(measure.LEAST):
        work = [
            lambda: Released(bridge, *given), lambda: released.effects(senders, c.receivers, c.mlps == "frozen"), ours
        ]  # fmt: skip
        order = [0, 1, 2] if turn % 2 else [2, 0, 1]
        spent = {i: seconds(work[i]) for i in order}
        times.append((spent[0] + spent[1] * top * HEADS / SENDERS, spent[2]))
    ratio = measure.spread([peer / mine for peer, mine in times])
    return {
        "columns": c.columns, "batch": BATCH, "receivers": c.receivers or "logits", "mlps": c.mlps,
        "senders": top * HEADS, "senders_timed": SENDERS, "repetitions": len(times),
        "peer_seconds_extrapolated": measure.spread([peer for peer, _ in times]),
        "ours_seconds": measure.spread([mine for _, mine in times]), "ratio": ratio,
        "largest_difference": difference, "largest_effect": float(found.abs().max()), "target": c.target,
        "met": ratio["median"] >= c.target, "load_average": before,
    }  # fmt: skip


def compare_edges(model: Any, bridge: Any, steps: int = 5) -> dict[str, Any]:
    """EAP-IG on both sides, scores of all edges."""
    given, graph, before = prompts(20, bridge.cfg.d_vocab), Graph(bridge), measure.load()
    theirs, ours = graph.scores(*given, steps), wb.patching.edge_effects(model, *given, steps).values.sum(0)
    difference = float((theirs - ours.nan_to_num()).abs().max())
    assert difference <= ATOL, f"EAP-IG: edges differ by {difference}"
    figure = measure.paired(
        lambda: graph.scores(*given, steps), lambda: wb.patching.edge_effects(model, *given, steps)
    )  # fmt: skip
    return {
        "work": f"EAP-IG, {steps} steps", "edges": int((~ours.isnan()).sum()), "largest_difference": difference, **figure,
        "target": 1.0, "met": figure["ratio"]["median"] >= 1.0, "load_average": before,
    }  # fmt: skip


def main() -> None:
    """All comparisons, some twenty minutes; prints a line each and keeps them as they come."""
    before, figures = measure.load(), [{"complete": False}]
    with tempfile.TemporaryDirectory() as folder:
        place = builds.random_gpt2(Path(folder) / "medium", LAYERS, HEADS)
        model, bridge = wb.load(place), wb.load(place).bridge
        for work in (*(partial(compare, model, bridge, c) for c in COMPARISONS), partial(compare_edges, model, bridge)):
            figures.append(work())
            print(figures[-1], flush=True)
            measure.keep("patching", figures, before)
    figures[0] = {"complete": True}
    met = statistics.mean(figure["met"] for figure in figures[1:])
    print(f"{met:.0%} of the targets met;", measure.keep("patching", figures, before))


if __name__ == "__main__":
    main()
