"""The report of a fit of windows: the map, what the windows cost, the list's cut beside them, the method."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from workbench.views import Block, Command, Curves, Download, Downloads, HeadMap, Page, Prose, Section, Series, Table
from workbench_analyses.kv.measured import told_budget
from workbench_analyses.windows.rules import FITTED, HALVED, WIDEST
from workbench_analyses.windows.terminal import by_window

if TYPE_CHECKING:
    from workbench_analyses.windows.checked import Checked
    from workbench_analyses.windows.result import FittedWindows

ERRORS = (
    "Keys are met band by band, nearest first, in one plain forward: running accumulators hold each head's output z_w over "
    "the first tokens and the last w ones, for every w of the grid, and at last z over all. The error of a window is the "
    "median of ‖z − z_w‖ / ‖z‖ over rows, of each kind of rows; the worst kind counts, and the worst query head of a group."
)
KINDS = {
    "told": "told: the rows after which the tokens of an answer are said; a median for each needle depth, the worst counts.",
    "read": "read: rows of the last quarter of the prompt, evenly spread.",
}
SMALLEST = (
    "A head gets the smallest window from which on its error stays within the tolerance, else the whole cache. It is the "
    "error of one head in an otherwise plain model: what many windows cost together is only seen in the check."
)
CHECK = (
    "Checked on other needles, and texts without one, in the simulator: the prompt is read by plain attention, then every "
    "head keeps its first tokens and its window, which moves on. KL is from the full cache's words, in nats a token."
)
LISTS = (
    "The list's cut holds as many entries as the windows do: once with up to half of them in full heads (DuoAttention's "
    "rule of the simulator), once with as many full heads as fit beside windows of the least size."
)
DEALT = (
    "Dealt anew: the same windows at other heads of their layers, no arrangement twice. "
    "p = (1 + deals with no more KL) / (1 + deals)."
)


def report(result: FittedWindows) -> str:
    """One offline file."""
    refused = tuple(f"Left out: {line}." for line in result.refused)
    kinds = tuple(KINDS[kind] for kind in result.config.at)
    sections = [
        Section("Finding", [Prose((), _facts(result), callout=result.verdict)]),
        Section("The windows", [_map(result), _errors(result)]),
        Section("What they cost", [curves(result, "kl"), curves(result, "recall"), Prose(refused), _table(result)]),
        Section("Method", [Prose((ERRORS, *kinds, SMALLEST, CHECK, LISTS, DEALT))]),
        Section("Cost and reproduction", _reproduction(result)),
    ]
    return Page(f"Windows of {result.model.name}", result.model_label, sections).html()


def curves(result: FittedWindows, field: str) -> Curves:
    """KL or recall against what is kept: the windows, and the list's two cuts, a point a tolerance."""
    series = []
    for name in (FITTED, HALVED, WIDEST):
        some = sorted((c for c in result.checks if c.name == name), key=lambda c: c.kept)
        if some:
            y, low, high = zip(*(_interval(c, field) for c in some), strict=True)
            series.append(Series(name, [round(c.kept, 4) for c in some], y, low, high))
    finding = "; ".join(f"{s.name}: {s.y[0]:.3g} at {s.x[0]:.2f}" for s in series)
    label = "needle recall" if field == "recall" else "KL from the full cache (nats a token)"
    bands = "95 % Wilson" if field == "recall" else "95 % bootstrap"
    caption = f"n = {result.config.samples} needles; {bands} intervals; one point a tolerance."
    whole = field == "recall"
    return Curves(
        series, "key-value entries kept (share of the full cache)", label, finding, caption=caption,
        y_range=(0.0, 1.0) if whole else None, log_y=not whole, digits=3 if whole else 5,
    )  # fmt: skip


def _interval(check: Checked, field: str) -> tuple[float, float, float]:
    return check.point.recall if field == "recall" else check.point.interval("kl")


def _map(result: FittedWindows) -> HeadMap:
    worst = np.stack(list(result.errors.values())).max(0)
    worst = worst.reshape(len(worst), result.found.shape[1], -1, worst.shape[-1]).max(2)
    details = {
        (i, j): {f"error at {w}": float(worst[i, j, n]) for n, w in enumerate(result.windows)}
        for i, j in np.ndindex(*result.found.shape)
    }
    whole = [(int(i), int(j)) for i, j in np.argwhere(result.found == result.config.context)]
    caption = f"Columns are key-value heads; colours by log₂ of the window. {by_window(result)}."
    return HeadMap(
        np.log2(result.found), "The smallest window of every head", caption, "log₂ of tokens", details=details,
        marked=whole, marked_label="needs the whole cache",
        limits=(float(np.log2(result.windows[0])), float(np.log2(result.config.context))),
    )  # fmt: skip


def _errors(result: FittedWindows) -> Table:
    rows = [
        [kind, window, *(float(q) for q in np.nanquantile(errors[..., n], (0.25, 0.5, 0.75, 1.0)))]
        for kind, errors in result.errors.items()
        for n, window in enumerate(result.windows)
    ]
    columns = ("rows", "window", "error: best quarter of heads", "half of heads", "three quarters", "worst head")
    return Table(columns, rows, "Median error of query heads by window.", limit=30)


def _table(result: FittedWindows) -> Table:
    columns = (
        "tolerance", "rule", "kept", "recall (95 %)", "KL (95 %)", "top-1 (95 %)", "perplexity", "bytes",
        "dealt anew: recall", "dealt anew: KL", "p",
    )  # fmt: skip
    rows = [
        [c.tolerance, c.name, c.kept, c.point.recall, _significant(*c.point.interval("kl")), c.point.interval("agree"),
         c.point.perplexity[0], round(c.point.mean("bytes")),
         float(np.mean(c.of_deals("recall"))) if c.dealt else None,
         f"{np.mean(c.of_deals('kl')):.3g}" if c.dealt else None, c.p]
        for c in result.checks
    ]  # fmt: skip
    own = next((c.point.perplexity[1] for c in result.checks), float("nan"))
    caption = f"Shares of the full cache, mean over decoded steps; perplexity with the full cache {own:.2f}."
    return Table(columns, rows, caption, limit=40)


def _significant(value: float, low: float, high: float) -> str:
    """A small figure with its interval: decimals would show zeros."""
    return f"{value:.3g} [{low:.2g}, {high:.2g}]"


def _facts(result: FittedWindows) -> dict[str, object]:
    own = result.config
    return {
        "the whole cache": told_budget(result.setting),
        "heads by window": by_window(result),
        "kept at the whole context": f"{result.share(own.tolerance):.1%} of {own.context:,} tokens",
        "fitted on": f"{own.prompts} needles",
        "checked on": f"{own.samples} other needles, {own.texts} texts",
    }


def _reproduction(result: FittedWindows) -> list[Block]:
    facts = {"time": f"{result.cost['seconds']:.0f} s", "peak memory": f"{result.cost['peak_memory_mib']:.0f} MiB"}
    files = (Download("windows.json", json.dumps(result.found.tolist())),)
    run = result.path or "RUN"
    served = f"workbench export {run} format=head-windows"
    return [Prose((), facts), Command(result.command), Command(served, "To a server."), Downloads(files)]
