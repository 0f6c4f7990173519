"""report.html of two circuits compared: finding, graph, thresholds, stages and roles, ceiling, transfer, method."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from workbench.options import command_line
from workbench.views import (
    Block,
    CircuitGraph,
    Command,
    Curves,
    Download,
    Downloads,
    Page,
    Prose,
    Section,
    Series,
    Table,
)
from workbench_analyses.circuits import reuse_tables as tables
from workbench_analyses.circuits.reuse_result import PRIMARY

if TYPE_CHECKING:
    from workbench_analyses.circuits.reuse_result import Reuse

METHOD = (
    "A circuit has two columns. Patching: heads that enter a stage of path patching (lower 95 % bound of |effect| / gap "
    "beyond the threshold). Ablation: heads whose output from other prompts changes the answer; it shows heads that do the "
    "same work in the clean and the corrupted prompt, which patching cannot. The union is both.",
    "Chance: random sets that have as many heads in each layer as the circuits have, since heads of one role sit in few "
    "layers. The overlap is then a sum of independent hypergeometric numbers, so p is exact; `least p` is the smallest that "
    "sets of these sizes allow. The hypergeometric tail with layers ignored stands beside it. The primary test, fixed "
    "beforehand, is that of the patching columns at the traces' own threshold. All others are secondary and not corrected.",
    "Stages of two tasks are aligned by depth from the logits and channel; their labels differ. Ranks (Spearman of |share| "
    "over all heads, those below .1 % equal) and edges (matched by sender, receiver and channel) are tested against shuffles "
    "of the heads within each layer. Weighted overlap: Σ min(|a|, |b|) / Σ max.",
    "Intervals: 95 %, bootstrap over the prompts of both tasks; a head enters a resample by the normal bound of its ratio, "
    "with √2 standard errors for each of a sample, since a resample has its own noise beside the sample's. Ceiling: "
    "circuits found in random halves of the prompts, among the receivers of the whole. Normalised reuse is (A½ ∩ B½ − "
    "chance) / (√(A½ ∩ A½′ · B½ ∩ B½′) − chance), each as |∩| / min, not clipped, and not estimable where the denominator is "
    "below .1.",
    "Transfer: only some heads keep their outputs, at all positions; the others give those of the prompt's corrupted side "
    "(resample), means, or zero; MLPs are kept. Faithfulness is (m(C) − m(∅)) / (m(M) − m(∅)), m the mean logit difference. "
    "Circuits are the union of both columns; the prompts are others than those of the trace. Random circuits are the "
    "other's with its heads dealt anew within their layers; p = (1 + random circuits as faithful) / (1 + random circuits).",
)


def report(result: Reuse) -> str:
    """One offline file. Raises TooLarge above 2.5 MB."""
    a, b = result.names
    sections = [
        Section("Finding", _finding(result)),
        Section("Both circuits", [graph(result)]),
        Section("Thresholds", _sweep(result)),
        Section("Stages, roles and edges", _inside(result)),
        Section("Ceiling", [Table(tables.CEILING, _cells(tables.ceiling_rows(result)), _ceiling_note(result))]),
        *([Section("Each circuit on the other's task", _transfer(result))] if result.transfers else []),
        Section("Method", [Prose(METHOD, _parameters(result))]),
        Section("Cost and reproduction", _reproduction(result)),
    ]
    return Page(f"Circuit reuse: {a} and {b}", _models(result), sections).html()


def graph(result: Reuse) -> CircuitGraph:
    """What is shared and what only one has."""
    caption = (
        "Heads of either circuit, by patching or ablation; each stands in its stage nearest to the logits. Edges are matched "
        "by sender, receiver and channel."
    )
    return CircuitGraph((result.a.circuit, result.b.circuit), result.names, caption=caption)


def _models(result: Reuse) -> str:
    names = dict.fromkeys(side.circuit.model.name for side in (result.a, result.b))
    return " and ".join(names) + (
        ", two models of one shape" if result.a.circuit.model != result.b.circuit.model else ""
    )


def _finding(result: Reuse) -> list[Block]:
    facts = {
        f"{letter}: {name}": f"{side.circuit.task}, {side.circuit.corruption}, n = {side.circuit.n}, τ = {side.tau:g}"
        for letter, name, side in zip("AB", result.names, (result.a, result.b), strict=True)
    }
    caption = (
        "A, B: heads of each circuit. ∩ / min: shared of the smaller, what reuse usually means. Chance: mean overlap "
        "of random sets with as many heads in each layer; p: how often they share as many; least p: the smallest that is "
        "possible; p flat: layers ignored. Brackets: 95 % over prompts."
    )
    return [
        Prose(
            result.notes, facts, f"{result.verdict[0].upper()}{result.verdict[1:]}.", "good" if result.shown else "warn"
        ),
        Table(tables.OVERLAP, _cells(tables.overlap_rows(result)), caption),
    ]


def _sweep(result: Reuse) -> list[Block]:
    if not result.sweep:
        return [Prose(("The circuits know of no common threshold.",))]
    return [sweep_curve(result), Table(tables.SWEEP, _cells(tables.sweep_rows(result)), "Heads by patching.")]


def sweep_curve(result: Reuse) -> Curves:
    """The overlap over thresholds, with what chance gives."""
    taus, overlaps = [100 * one.tau for one in result.sweep], [one.overlap for one in result.sweep]
    shares = [one.share for one in overlaps]
    spans = [one.intervals.share for one in result.sweep if one.intervals]
    low, high = ([s[i] for s in spans] for i in (0, 1)) if len(spans) == len(taus) else (None, None)
    lines = [
        Series("|A ∩ B| / min", taus, shares, low, high),
        Series("Jaccard", taus, [one.jaccard for one in overlaps]),
        Series("|A ∩ B| / min by chance", taus, [one.expected_share for one in overlaps]),
    ]
    known, own = [x for x in shares if not math.isnan(x)], 100 * result.a.tau
    spread = f"{min(known):.2f} to {max(known):.2f}" if known else "nothing"
    return Curves(
        lines, "threshold (% of the gap)", "overlap", f"Of the smaller circuit {spread} is shared, over all thresholds",
        caption="Band: 95 % over prompts.", marks=[(own, "traced")] if taus and taus[0] <= own <= taus[-1] else (),
        log_x=True,
    )  # fmt: skip


def _cells(rows: tables.Rows) -> list[list[str | int]]:
    """Whole numbers as such, so that they align and sort."""
    return [[int(cell) if cell.isdecimal() else cell for cell in row] for row in rows]


def _inside(result: Reuse) -> list[Block]:
    columns, rows = tables.role_rows(result)
    blocks: list[Block] = [
        Table(
            tables.STAGES,
            _cells(tables.stage_rows(result)),
            "Stages that both circuits have; p of the overlap is exact.",
        ),
        Table(columns, rows, "Heads by their role in each circuit, that of their largest share."),
    ]
    e = result.edges
    if e is None:
        return [*blocks, Prose(("A circuit has no edges, so none are compared.",))]
    facts = {
        "edges": f"{e.a} and {e.b}", "shared": f"{len(e.shared)}, {e.labelled} of them with one label",
        "of the smaller": f"{e.share:.2f}", "Jaccard": f"{e.jaccard:.2f}", "by chance": f"{e.expected:.2f}",
        "p": f"{e.p:.2g}, least possible {e.least:.2g}",
    }  # fmt: skip
    return [*blocks, Prose(("Edges, matched by sender, receiver and channel:",), facts)]


def _ceiling_note(result: Reuse) -> str:
    return (
        f"Mean of {result.config.halvings} random halvings, as |∩| / min. A circuit that does not agree with itself cannot "
        f"be shown to be reused."
    )


def _transfer(result: Reuse) -> list[Block]:
    caption = (
        "Faithfulness: share of the logit difference that these heads make alone, with its 95 % interval over prompts. "
        "Random circuits: mean (least to most; how many)."
    )
    return [
        Table(
            tables.TRANSFER,
            _cells(tables.transfer_rows(result, i)),
            f"n = {one.n} prompts. {caption}",
            f"On {result.names[i]}",
        )
        for i, one in enumerate(result.transfers)
    ]


def _parameters(result: Reuse) -> dict[str, object]:
    c = result.config
    return {
        "primary column": PRIMARY, "ablation in transfer": c.ablation, "shuffles": f"{c.draws:,}",
        "bootstrap samples": f"{c.resamples:,}", "halvings": c.halvings, "random circuits": c.controls, "seed": c.seed,
    }  # fmt: skip


def _reproduction(result: Reuse) -> list[Block]:
    facts = {"time": f"{result.cost['seconds']:.0f} s", "peak memory": f"{result.cost['peak_memory_mib']:.0f} MiB"}
    files = Downloads((Download("reuse.json", json.dumps(result.summary(), indent=1)),))
    if not (result.a.where and result.b.where):
        return [Prose(facts=facts), files]
    from workbench.commands.compare import COMMAND, OF_RUNS, Compare

    held = {name: getattr(result.config, name) for name in OF_RUNS if name not in ("device", "memory", "out")}
    config = Compare(a=result.a.where, b=result.b.where, **held)
    return [Prose(facts=facts), Command(command_line(COMMAND, config, always=("a", "b"))), files]
