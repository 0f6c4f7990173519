"""How a comparison of circuits is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.terminal_table import terminal_table
from workbench_analyses.circuits import reuse_tables as tables
from workbench_analyses.circuits.reuse_result import PRIMARY

if TYPE_CHECKING:
    from workbench_analyses.circuits.reuse_result import Reuse


OVERLAP = "overlap, against random sets with as many heads in each layer (p flat: layers ignored)"


def terminal(result: Reuse) -> Any:
    """The verdict, overlaps, thresholds, stages, transfer, notes, and where the report lies."""
    from rich.console import Group
    from rich.text import Text

    shared = result.columns[PRIMARY].overlap.shared
    lines: list[Any] = [
        Text(f"A: {_about(result, 0)}"), Text(f"B: {_about(result, 1)}"), Text(result.verdict, style="bold"),
        Text(f"shared by patching: {tables.heads_in_words(shared)}" if shared else "shared by patching: no head"), "",
        terminal_table(OVERLAP, tables.OVERLAP, tables.overlap_rows(result)),
        terminal_table("heads by patching, over the threshold", tables.SWEEP, tables.sweep_rows(result)),
        terminal_table("overlap of halves of the prompts, |A ∩ B| / min", tables.CEILING, tables.ceiling_rows(result)),
        terminal_table("stages, aligned by depth and channel", tables.STAGES, tables.stage_rows(result)),
    ]  # fmt: skip
    for i, one in enumerate(result.transfers):
        title = f"{result.names[i]}, done by some heads alone (others give another prompt's output), n = {one.n}"
        lines.append(terminal_table(title, tables.TRANSFER, tables.transfer_rows(result, i)))
    if result.edges is not None:
        e = result.edges
        lines.append(
            Text(
                f"edges: {len(e.shared)} shared of {e.a} and {e.b}, {e.expected:.2g} by chance, p = {tables.p_value(e.p)}; "
                f"{e.labelled} with one label"
            )
        )
    lines += [Text(f"note: {note}") for note in result.notes]
    lines.append(Text(f"{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"))
    if result.config.out:
        lines.append(Text(f"{result.config.out}/report.html"))
    return Group(*lines)


def _about(result: Reuse, index: int) -> str:
    side = (result.a, result.b)[index]
    c = side.circuit
    counts = f"{len(c.carrying)} heads by patching, {len(c.needed)} by ablation"
    return f"{result.names[index]} ({c.task}, {c.model.name}, {counts})"
