"""How a trace is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench_analyses.circuits.published import against_key

if TYPE_CHECKING:
    from workbench.circuits import CircuitHead
    from workbench_analyses.circuits.result import Trace

COLUMNS = ("stage", "head", "share of the gap", "95 %", "role", "evidence")
SHOWN = 6
"""Words that are named."""
STRONG = 0.3
"""Evidence that is named in a line; the report has all."""


def terminal(result: Trace) -> Any:
    """Verdict, what the model does, the heads stage by stage with their evidence, what only ablation shows."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    c = result.circuit
    table = Table(title=f"n = {c.n}, gap {c.gap:+.2f} logits, threshold {result.config.tau:.1%}", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in COLUMNS[1:4] else "left")
    for head in c.heads:
        table.add_row(*head_cells(head))
    lines: list[Any] = [
        Text(result.model_label, style="bold"), Text(result.verdict), Text(result.behaviour.words()), "", table,
    ]  # fmt: skip
    for one in (x for x in result.choices if x.followed):
        lines.append(Text(f"followed from depth {one.depth - 1}: {one.channel}@{one.label}, {one.size:.2f} of the gap"))
    only = [h for h in c.needed if h not in c.carrying]
    if only:
        names = ", ".join(f"L{layer}H{head}" for layer, head in only)
        lines.append(Text(f"needed, but the same in both prompts (ablation only): {names}"))
    if result.config.key:
        found = against_key(c, result.config.key)
        lines.append(Text(f"{found.key.source}: {found.words}"))
    if result.left_out:
        more = f" and {len(result.left_out) - SHOWN} more" if len(result.left_out) > SHOWN else ""
        words = ", ".join(result.left_out[:SHOWN])
        lines.append(Text(f"left out, this tokenizer does not hold them as the task needs: {words}{more}"))
    lines.append(Text(f"\n{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"))
    if result.path:
        lines.append(Text(f"{result.path}/report.html"))
    return Group(*lines)


def head_cells(head: CircuitHead) -> tuple[str, ...]:
    """One head of a stage as cells of a table."""
    return (
        head.stage, f"L{head.head[0]}H{head.head[1]}", f"{head.share:+.1%}", f"{head.low:+.1%} to {head.high:+.1%}",
        head.role, head.words(STRONG) or "none above .3",
    )  # fmt: skip
