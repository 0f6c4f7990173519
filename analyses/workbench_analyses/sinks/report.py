"""report.html of a sink scan: finding, heads, sinks in their text, massive activations, check, retrieval, method, cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from workbench.jsonable import jsonable
from workbench.scores_io import score_files
from workbench.views import (
    Block,
    Command,
    Curves,
    Download,
    Downloads,
    HeadMap,
    Page,
    Prose,
    Section,
    Series,
    Table,
    TokenView,
)
from workbench.views.text import visible
from workbench_analyses.sinks.massive_views import massive_blocks
from workbench_analyses.sinks.proof_views import check_blocks, retrieval_blocks
from workbench_analyses.sinks.tables import rule_rows

if TYPE_CHECKING:
    from workbench_analyses.sinks.result import SinkScan

TOKENS = 200
"""Sink tokens that are listed, at most; sinks.parquet holds all."""
METHOD = (
    "α of a key is its received attention, averaged over the valid queries that see it. u is the α of an even head "
    "under the same mask. Corrected rule: a key is a sink of a head if at least max(32, N/8) queries see it, α > a·u, "
    "its column sums to more than one query's worth above the even head, and at least half of those queries give it more "
    "than an even head would. So even, previous-token, self-attending and window heads have no sink at any N. The paper's "
    "rule α > a/N (Yu et al. 2024, arXiv 2406.15765) flags an even head's first key from N ≈ 83 on.",
    "A head parks if it has a sink in at least half of the natural texts and the strongest of each text receives more "
    "than ε on average. Attention to the first token falls with T where it is merely spread: state T with every figure. "
    "Sink^ε: Gu et al. 2025, arXiv 2410.10781. Massive activations: arXiv 2402.17762. Φ: arXiv 2503.03321.",
    "The check edits one head at a time. Value zeroed: the sink's weight is dropped, the row keeps the rest. Key "
    "blocked: the row is normalised over the other keys. Window: only the first keys and the recent ones are seen, at "
    "their positions or renumbered as in StreamingLLM (arXiv 2309.17453). A sink that is only a place to park costs in "
    "the second, not in the first. Controls are heads of the same layer that do not park, edited at the same key; a head "
    "of a layer without them is compared with no change.",
)


def report(scan: SinkScan) -> str:
    """One offline file. Raises TooLarge above 2.5 MB."""
    name = scan.scores.model.name if scan.scores.model else "an unverified model"
    sections = [
        Section("Finding", _finding(scan), scan.conditions + "."),
        Section("Heads", _heads(scan)),
        Section("Sinks in their text", _in_text(scan)),
        Section("Rules side by side", [_rules(scan)]),
        Section("Massive activations", massive_blocks(scan)),
        Section("Without the sink", check_blocks(scan)),
        Section("Sinks against retrieval", retrieval_blocks(scan)),
        Section("Method", [Prose(METHOD, _parameters(scan))]),
        Section("Cost and reproduction", _reproduction(scan)),
    ]
    return Page(f"Attention sinks of {name}", scan.model_label, sections).html()


def _finding(scan: SinkScan) -> list[Block]:
    c, facts = scan.config, {}
    for found in (scan.natural, scan.random):
        name = f"Sink^ε, {found.texts.kind}, T = {c.epsilon_tokens}"
        facts[name] = f"{scan.epsilon_rate(found):.1f} %"
    short = scan.natural.rate.mean(0)
    facts[f"largest {scan.score_name} at T = {c.epsilon_tokens}"] = f"{np.nanmax(short):.2f}"
    facts[f"largest {scan.score_name} at T = {c.tokens}"] = f"{np.nanmax(scan.scores.values):.2f}"
    layers = scan.natural.massive_layers(c.massive_least, c.massive_ratio)
    facts["massive activations"] = f"after layers {', '.join(map(str, layers))}" if layers else "none"
    if (learned := scan.companions.get("learned")) is not None:
        facts["learned sink takes"] = f"{np.nanmean(learned.values):.2f} of a row"
    return [Prose(callout=scan.verdict + ".", tone="good" if scan.parked and scan.checks else "warn", facts=facts)]


def _heads(scan: SinkScan) -> list[Block]:
    low, high = scan.scores.interval()
    random, hidden, learned = (scan.companions.get(k) for k in ("random", "hidden", "learned"))
    assert random is not None and hidden is not None
    details = {}
    for h in scan.scores.rank():
        facts: dict[str, object] = {
            "random tokens": float(random.values[h]),
            "hidden sinks a text": float(hidden.values[h]),
        }
        details[h.layer, h.head] = facts | ({"learned sink": float(learned.values[h])} if learned else {})
    first = [(p.head.layer, p.head.head) for p in scan.parked if p.first]
    later = [(p.head.layer, p.head.head) for p in scan.parked if not p.first]
    n, kv = scan.scores.n, scan.scores.kv_heads
    labels = tuple(f"text {i + 1}" for i in range(n))
    caption = (
        f"{scan.score_name}: mean attention of all queries to the first token; n = {n} natural texts, "
        f"T = {scan.config.tokens}."
    )
    maps = [
        HeadMap(
            scan.scores.values, "Attention to the first token", f"{caption} Choose a head to read its texts.",
            low=low, high=high, details=details, unit=scan.score_name, samples=scan.scores.per_sample, sample_labels=labels,
            marked=first, marked_label="parks on the first token", limits=(0.0, 1.0), kv_heads=kv,
        ),
        HeadMap(
            hidden.values, "Hidden sinks", "Sinks by the corrected rule that are not the first token, per natural text.",
            unit="hidden sinks a text", samples=hidden.per_sample, sample_labels=labels, marked=later,
            marked_label="parks on a later token", kv_heads=kv,
        ),
    ]  # fmt: skip
    if learned is not None:
        maps.append(HeadMap(learned.values, "Learned sink", "Mean share of a row that the learned sink takes.",
                            unit="share", limits=(0.0, 1.0), kv_heads=kv))  # fmt: skip
    return [*maps, *([_parked(scan)] if scan.parked else []), _profile(scan)]


def _parked(scan: SinkScan) -> Table:
    low, high = scan.scores.interval()
    rows = [
        [str(p.head), visible(scan.words[p.token]), "first" if p.first else "later", p.received, p.rate,
         (scan.scores.values[p.head], low[p.head], high[p.head])]
        for p in scan.parked
    ]  # fmt: skip
    columns = ("head", "parks on", "place", "receives", "share of texts", f"{scan.score_name} (95 %)")
    return Table(columns, rows, "Heads that park on natural texts.", heads="head", digits=2)


def _profile(scan: SinkScan) -> Curves:
    layers = np.flatnonzero(scan.scores.scored.any(1)).tolist()  # others have no softmax attention
    values = scan.scores.values[layers]
    share, most = [float(x) for x in np.nanmean(values, 1)], [float(x) for x in np.nanmax(values, 1)]
    hidden = [float(x) for x in (scan.companions["hidden"].values[layers] > 0).mean(1)]
    series = [
        Series(f"largest {scan.score_name} of a head", layers, most),
        Series(f"mean {scan.score_name}", layers, share),
        Series("share of heads with a hidden sink", layers, hidden),
    ]
    finding = f"largest attention to the first token in layer {layers[int(np.argmax(most))]}: {max(most):.2f}"
    caption = "Natural texts; a hidden sink in any text counts."
    return Curves(series, "layer", "share", finding, title="Profile over layers", caption=caption, digits=2)


def _in_text(scan: SinkScan) -> list[Block]:
    view = scan.in_text
    rows = [
        [visible(scan.words[t.token]), "first" if t.first else f"{t.positions[0]}–{t.positions[1]}", t.pairs, t.texts,
         t.received, t.value_ratio, t.key_ratio, t.says, *([t.phi] if scan.dims else [])]
        for t in scan.natural.by_token()[:TOKENS]
    ]  # fmt: skip
    columns = (
        "token", "positions", "pairs", "texts", "receives", "‖v‖ ÷ median", "‖k‖ ÷ median", "α·‖v‖ ÷ ‖z‖",
        *(["Φ"] if scan.dims else []),
    )  # fmt: skip
    phi = f" Φ > τ = {scan.tau:.1f} makes a sink token." if scan.dims else ""
    table = Table(
        columns, rows, f"Sinks of natural texts by token (at most {TOKENS}); pairs: (layer, head) pairs that it holds. "
        f"Values near zero at a sink say little there.{phi}", digits=2, limit=10,
    )  # fmt: skip
    words, names = [visible(w) for w in view.words], [str(h) for h in view.heads]
    spans = {f"sink {k}": (k, k + 1) for k in view.sinks}
    caption = (
        "Received attention α in the first natural text, of the heads that are checked; the last tokens, which too few "
        "queries see, are left out. Underlined: the strongest sink of each head."
    )
    weights = view.received[:, None]
    received = TokenView.from_dense(words, names, ["mean over the text"], weights, spans=spans, caption=caption)
    return [received, table]


def _rules(scan: SinkScan) -> Table:
    rows = [[r.texts, r.rule, r.keys, r.heads] for r in rule_rows(scan)]
    caption = "keys: flagged (layer, head, key) of a text; heads: with a flagged key in at least half of the texts."
    return Table(("texts", "rule", "keys", "heads"), rows, caption, digits=1)


def _parameters(scan: SinkScan) -> dict[str, object]:
    c = scan.config
    return {
        "a": f"{c.a:g}", "ε": f"{c.epsilon:g}", "τ of Φ": f"{scan.tau:.2f}", "T": c.tokens,
        "T of Sink^ε": c.epsilon_tokens, "T of the check": c.check_tokens, "recent keys of a window": c.recent,
        "BOS": "first" if scan.natural.texts.begun else "none", "padding": "none", "seed": c.seed, "dtype": c.dtype,
    }  # fmt: skip


def _reproduction(scan: SinkScan) -> list[Block]:
    cost = scan.cost
    facts = {
        "scan": f"{cost['scan_seconds']:.0f} s", "check": f"{cost['proof_seconds']:.0f} s",
        "peak memory": f"{cost['peak_memory_mib']:,.0f} MiB",
    }  # fmt: skip
    if "unit_seconds" in cost:
        facts["units, all sessions"] = f"{cost['unit_seconds']:.0f} s"
    files = [Download("summary.json", json.dumps(jsonable(scan.summary()), indent=1))]
    files += [Download(name, text) for name, text in score_files(scan.scores).items()]
    return [Prose(facts=facts), Command(scan.command), Downloads(tuple(files))]
