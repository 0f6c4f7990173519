"""How a retrieval scan is shown: the terminal table and report.html."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from workbench_analyses.retrieval.scan import Scan

ROWS = 10


def terminal(scan: Scan) -> Any:
    """Top heads with intervals, sparsity, always-on heads, where recall halves."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines: list[Any] = [Text(scan.model_label, style="bold"), Text(scan.verdict)]
    if scan.scores.n:
        low, high = scan.scores.interval()
        table = Table(
            title=f"retrieval score, {scan.scores.n} samples, 95 % interval over needles", title_justify="left"
        )
        for name in ("head", "score", "interval", "needle mass", "induction"):
            table.add_column(name, justify="right")
        mass = scan.companions["mass"].values
        for h in scan.scores.top(ROWS):
            values = (scan.scores.values[h], f"{low[h]:.2f}–{high[h]:.2f}", mass[h], scan.repeats.induction[h])
            table.add_row(str(h), *(v if isinstance(v, str) else f"{v:.2f}" for v in values))
        lines += [table, Text(sparsity(scan))]
    if scan.validation:
        lines += [curves(scan)]
    if scan.path:
        lines.append(Text(f"{scan.path}/report.html"))
    return Group(*lines)


def sparsity(scan: Scan) -> str:
    """How few heads there are."""
    v, t = scan.scores.values, scan.config.threshold
    return (
        f"{int((v >= t).sum())} heads ≥ {t:g}, {int((v >= 0.5).sum())} ≥ 0.5, {int((v == 0).sum())} never above 0, "
        f"{len(scan.scores.always_on())} in every sample, of {v.size}"
    )


def curves(scan: Scan) -> Any:
    """The masking curves as a table."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    v = scan.validation
    assert v is not None
    head = f"exact recall with K heads masked ({v.ablation}; unmasked {v.base:.2f}; n = {v.n}; proof={v.proof})"
    table = Table(title=head, title_justify="left")
    for name in ("K", "top", "matched random (95 %)", "all layers", "bottom"):
        table.add_column(name, justify="right")
    for p in v.points:
        ci = band(p.matched)
        free = f"{np.mean(p.all_layers):.2f}" if p.all_layers else "–"
        table.add_row(str(p.k), f"{p.top:.2f}", ci, free, f"{p.bottom:.2f}")
    halves = f"recall halves at K = {v.halves_at}" if v.halves_at else "recall does not halve at any K"
    off = ""
    if v.off_task:
        off = f"; off-task loss on prose {v.off_task[0]:.2f} → {v.off_task[1]:.2f} nats with the top {v.off_task_k} masked"
    return Group(table, Text(halves + off))


def band(draws: tuple[float, ...]) -> str:
    """Mean and middle 95 % of control draws."""
    if not draws:
        return "no control"
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{np.mean(draws):.2f} ({low:.2f}–{high:.2f}, {len(draws)} draws)"


METHOD = (
    "A context is assembled as token ids: prose, one statement with an answer in it, a question at the end. At the step "
    "that produces answer token w a head copies if the key of its largest attention lies in the statement's answer and "
    "holds w. The score is the share of answer tokens copied, averaged over answered samples (Wu et al. 2024, arXiv "
    "2404.15574; distinct positions). A sample is answered if ROUGE-1 recall (not stemmed) of its answer exceeds one half. "
    "Echo and induction: attention on repeated random tokens to earlier copies of the current token and to the tokens "
    "after them; the proof masks heads at prefill and decode and asks for the exact answer, on needles of its own."
)


def report(scan: Scan) -> str:
    """One offline file: finding, head map, recall by length and depth, masking curves, method, cost, command."""
    from workbench.pages.page import Section, code, page, prose

    cost = scan.cost
    spent = f"{cost['scan_seconds']:.0f} s scan, {cost['proof_seconds']:.0f} s proof, {cost['peak_memory_mib']:.0f} MiB peak"
    paths = f"{np.mean([s['decoded'] for s in scan.samples]):.0%} of samples were decoded token by token"
    heads = _map(scan) + _top(scan) if scan.scores.n else prose("No copy score: too few answers.") + _map(scan)
    finding = prose(scan.verdict, *([sparsity(scan)] if scan.scores.n else []))
    sections = [
        Section("Finding", f"<div class='verdict'>{finding}</div>"),
        Section("Heads", heads),
        Section("Recall by length and depth", _recall(scan)),
        Section("Proof", _proof(scan)),
        *([Section("Where the top head looks", _tokens(scan))] if scan.view else []),
        Section("Samples", _samples(scan)),
        Section(
            "Method", prose(METHOD, f"Template: {scan.template}. Repeated segment: K = {scan.repeats.k}. {paths}.")
        ),
        Section("Cost and reproduction", prose(spent) + code(command(scan))),
    ]
    name = scan.scores.model.name if scan.scores.model else "an unverified model"
    return page(f"Retrieval heads of {name}", scan.model_label, sections)


def command(scan: Scan) -> str:
    """The command line that gives the same numbers."""
    import chz

    default, mine = type(scan.config)(), chz.asdict(scan.config)
    changed = {
        k: v for k, v in mine.items() if v != getattr(default, k) and k not in ("out", "device", "batch", "model")
    }
    text = {k: ",".join(map(str, v)) if isinstance(v, list | tuple) else str(v).lower() for k, v in changed.items()}
    return " ".join([f"workbench scan-heads model={scan.config.model}", *(f"{k}={v}" for k, v in text.items())])


def _map(scan: Scan) -> str:
    from workbench.pages.pictures import head_map

    scored = scan.scores.n > 0
    scores = scan.scores if scored else scan.companions["induction"]
    low, high = scores.interval()
    told = {}
    for h in scores.rank():
        parts = [f"{h}: {scores.values[h]:.3f}"]
        if scores.per_sample is not None:
            each = scores.per_sample[:, h.layer, h.head]
            parts.append(f"95 % {low[h]:.2f}–{high[h]:.2f}; samples: " + " ".join(f"{x:.2g}" for x in each))
        parts.append(f"induction {scan.repeats.induction[h]:.2f}, echo {scan.repeats.echo[h]:.2f}")
        told[(h.layer, h.head)] = "; ".join(parts)
    what = f"Retrieval score, n = {scores.n}." if scored else f"Induction score on repeats of {scan.repeats.k} tokens."
    return head_map(scores.values, told, scores.kv_heads or scores.n_heads, what)


def _top(scan: Scan) -> str:
    from workbench.pages.page import table

    low, high = scan.scores.interval()
    rows = [
        (str(h), f"{scan.scores.values[h]:.3f}", f"{low[h]:.2f}–{high[h]:.2f}", f"{scan.companions['raw'].values[h]:.3f}",
         f"{scan.companions['mass'].values[h]:.3f}", f"{scan.repeats.induction[h]:.2f}", f"{scan.repeats.echo[h]:.2f}")
        for h in scan.scores.top(ROWS)
    ]  # fmt: skip
    header = ("head", "score", "95 % interval", "raw", "needle mass", "induction", "echo")
    return table(header, rows, f"n = {scan.scores.n} answered samples; bootstrap over needles")


def _recall(scan: Scan) -> str:
    from workbench.pages.page import table

    lengths, depths = scan.config.lengths, scan.config.depths
    rows = []
    for length in lengths:
        cells = []
        for depth in depths:
            got = [s["exact"] for s in scan.samples if (s["length"], s["depth"]) == (length, depth)]
            cells.append(f"{np.mean(got):.2f} ({len(got)})" if got else "–")
        rows.append((f"{length:,} tokens", *cells))
    return table(("length", *(f"depth {d:g} %" for d in depths)), rows, "Share answered exactly (number of samples)")


def _proof(scan: Scan) -> str:
    from workbench.pages.page import prose, table
    from workbench.pages.pictures import curves as picture

    v = scan.validation
    if v is None:
        return prose(
            "Not validated: " + ("proof=none was asked for." if scan.scores.n else "there is no list to mask.")
        )
    ks = [p.k for p in v.points]
    mean = [float(np.mean(p.matched)) if p.matched else float("nan") for p in v.points]
    quantiles = [_quantiles(p.matched) for p in v.points]
    free = [float(np.mean(p.all_layers)) if p.all_layers else float("nan") for p in v.points]
    series = {"top K": [p.top for p in v.points], "matched random": mean, "bottom K": [p.bottom for p in v.points]}
    text = (
        f"Exact recall against the number of heads masked ({v.ablation} ablation, n = {v.n} samples, proof={v.proof})."
    )
    svg = picture(ks, {**series, "random, all layers": free}, {"matched random": quantiles}, text)
    rows = [
        (p.k, f"{p.top:.2f}", band(p.matched), f"{f:.2f}", f"{p.bottom:.2f}", p.ties)
        for p, f in zip(v.points, free, strict=True)
    ]
    header = ("K", "top", "matched random (95 %)", "all layers", "bottom", "ties at the cut")
    test = (
        "no matched control"
        if v.p is None
        else f"area {v.area:.3f}, p = {v.p:.3f} (smallest attainable {v.p_smallest:.3f})"
    )
    halves = f"recall halves at K = {v.halves_at}" if v.halves_at else "recall does not halve"
    off = f"; next-token loss on prose {v.off_task[0]:.3f} → {v.off_task[1]:.3f} nats" if v.off_task else ""
    said = f"Primary test, fixed beforehand, the area between the matched mean and the list: {test}; {halves}{off}."
    return svg + table(header, rows) + prose(said)


def _quantiles(draws: tuple[float, ...]) -> tuple[float, float]:
    if not draws:
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _tokens(scan: Scan) -> str:
    from workbench.pages.pictures import tokens

    if scan.view is None:
        return ""
    v = scan.view
    said = f"{v.head} at the step that produces the answer's first token; underlined: the answer. Hover for weights."
    return tokens(v.words, v.weights, v.answer, said)


def _samples(scan: Scan) -> str:
    from workbench.pages.page import table

    rows = [
        (s["needle"], s["kind"], f"{s['tokens']:,}", f"{s['reached']:.0f} %", f"{s['recall']:.2f}", s["response"])
        for s in scan.samples[:12]
    ]
    header = ("needle", "kind", "tokens", "depth", "recall", "response")
    return table(header, rows, f"The first {len(rows)} of {len(scan.samples)} samples; all are in samples.parquet")
