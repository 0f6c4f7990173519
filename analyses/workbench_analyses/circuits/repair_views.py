"""How a repair is shown: a table in the terminal, and report.html."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.jsonable import dumps
from workbench.views import Block, Command, Download, Downloads, Page, Points, Prose, Scatter, Section, Table

if TYPE_CHECKING:
    from workbench_analyses.circuits.repair_result import Arm, Repair

COLUMNS = (
    "pattern",
    "accuracy",
    "mended",
    "new mistakes",
    "McNemar p",
    "logit difference",
    "p of the repair",
)
METHOD = (
    "In the row of the last token, the attention of the named heads is replaced: equal weights on the labelled tokens, "
    "nothing on any other. Values and all else stay live (Merullo et al. 2023, arXiv 2310.08744, section 5). The labels "
    "say where the wrong answers stand, so the edit knows the answer: an oracle, which shows what these heads would be "
    "worth if they looked there, and is no method for prompts without labels.",
    "A prompt is right if the likeliest next token, over the whole vocabulary, is the answer. Intervals are Wilson's, 95 %. "
    "Mended and new mistakes are prompts that become right or wrong, against no edit; McNemar's test of them is exact and "
    "two-sided.",
    "Two controls: the same heads at as many random other tokens of the prompt, drawn anew for every prompt; and random "
    "heads at the labelled tokens, as many in each layer and none of those named. p of the repair: (1 + draws that are "
    "right as often) / (1 + draws).",
)


def table_rows(result: Repair) -> list[tuple[Any, ...]]:
    """A line an arm; control draws together: mean, least and largest accuracy, mean counts."""
    all_ = ", all" if result.enumerated else ""
    out = [_line("no edit", result.base), _line(f"{result.named} (oracle)", result.repaired)]
    for name, arms in (("random tokens", result.random_tokens), (f"random heads{all_}", result.random_heads)):
        if arms:
            out.append(_together(f"{name} ({len(arms)})", arms, result.p_against(arms)))
    return out


def _line(name: str, arm: Arm) -> tuple[Any, ...]:
    return (name, (arm.accuracy, arm.low, arm.high), arm.mended, arm.spoiled, arm.p, arm.difference, None)


def _together(name: str, arms: Sequence[Arm], p: float | None) -> tuple[Any, ...]:
    accuracy, mended, spoiled, moved = (
        np.array([getattr(a, field) for a in arms]) for field in ("accuracy", "mended", "spoiled", "difference")
    )
    spread = (float(accuracy.mean()), float(accuracy.min()), float(accuracy.max()))
    return (name, spread, _count(mended.mean()), _count(spoiled.mean()), None, float(moved.mean()), p)


def _count(mean: float) -> int | float:
    return int(mean) if mean == int(mean) else float(mean)


def terminal(result: Repair) -> Any:
    """Verdict, the arms, what was left out, where the report lies."""
    from rich.console import Group
    from rich.table import Table as Rows
    from rich.text import Text

    title = f"n = {result.base.n}, at {', '.join(result.config.labels)}; brackets: 95 %, of draws their range"
    table = Rows(title=title, title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == COLUMNS[0] else "right")
    for name, (mid, low, high), *rest in table_rows(result):
        table.add_row(name, f"{mid:.1%} [{low:.1%}, {high:.1%}]", *(_short(x) for x in rest))
    lines: list[Any] = [Text(result.model_label, style="bold"), Text(result.verdict), "", table]
    if result.left_out:
        lines.append(Text(f"{len(result.left_out)} words left out that this tokenizer does not hold as the task needs"))
    lines.append(Text(f"\n{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"))
    if result.path:
        lines.append(Text(f"{result.path}/report.html"))
    return Group(*lines)


def _short(x: float | None) -> str:
    return "" if x is None else f"{x:.3g}"


def report(result: Repair) -> str:
    """One offline file. Raises TooLarge above 2.5 MB."""
    facts = {
        "task": result.config.task, "heads": result.named, "pointed at": ", ".join(result.config.labels),
        "prompts": result.base.n, "oracle": "yes: the edit uses the label of the answer",
    }  # fmt: skip
    caption = "Accuracy with its 95 % interval; of the controls the mean, least and largest over their draws."
    arms = Table(COLUMNS, [list(row) for row in table_rows(result)], caption)
    cost = {"time": f"{result.cost['seconds']:.0f} s", "peak memory": f"{result.cost['peak_memory_mib']:.0f} MiB"}
    left_out = {"left out of the task's words": ", ".join(result.left_out)} if result.left_out else {}
    sections = [
        Section("Finding", [Prose(callout=result.verdict, tone="good" if result.mends else "warn", facts=facts), arms]),
        Section("Against its controls", [draws(result)]),
        Section("Method", [Prose(METHOD, {"seed": result.config.seed, "draws": result.config.draws, **left_out})]),
        Section("Cost and reproduction", _reproduction(result, cost)),
    ]
    return Page(f"Pointing heads of {result.model.name} elsewhere", result.model_label, sections).html()


def draws(result: Repair) -> Scatter:
    """Every arm by its accuracy and what it does to the logit difference."""
    groups = [
        Points(name, [a.accuracy for a in arms], [a.difference for a in arms], [name] * len(arms), len(arms) == 1)
        for name, arms in (
            ("no edit", (result.base,)), ("repaired", (result.repaired,)), ("random tokens", result.random_tokens),
            ("random heads", result.random_heads),
        )
        if arms
    ]  # fmt: skip
    finding = f"accuracy {result.base.accuracy:.1%} without, {result.repaired.accuracy:.1%} with the edit"
    caption = f"Each point is one run of n = {result.base.n} prompts."
    return Scatter(groups, "accuracy", "logit of the answer less that of its foil", finding, caption=caption)


def _reproduction(result: Repair, cost: dict[str, str]) -> list[Block]:
    rows = json.dumps(json.loads(dumps(result.rows())), indent=1)
    return [Prose(facts=cost), Command(result.command), Downloads((Download("arms.json", rows),))]
