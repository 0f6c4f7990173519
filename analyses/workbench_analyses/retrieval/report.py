"""report.html of a retrieval scan: finding, heads, recall, proof, where the heads look, method, cost, command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.scores_io import score_files
from workbench.views import (
    AttentionPatterns,
    Block,
    Command,
    Download,
    Downloads,
    HeadMap,
    Heatmap,
    Page,
    Prose,
    Section,
    Table,
    TokenView,
)
from workbench_analyses.retrieval.claims import claims
from workbench_analyses.retrieval.report_proof import proof_blocks
from workbench_analyses.retrieval.terminal import focus_lines

if TYPE_CHECKING:
    from workbench_analyses.retrieval.result import Scan

LISTED = 20
METHOD = (
    "A context is assembled as token ids: prose, one statement with an answer in it, a question at the end. At the "
    "step that produces an answer token a head copies if the key of its largest attention lies in the statement's "
    "answer and holds that very token. The score is the share of distinct answer positions copied, averaged over "
    "answered samples (Wu et al. 2024, arXiv 2404.15574). A sample is answered if ROUGE-1 recall (stemmed) of its "
    "answer exceeds one half. Intervals: 95 %, bootstrap over needles.",
    "`raw` counts every copied step; `needle mass` is the attention on the answer's tokens. Echo and induction: "
    "attention on repeated random tokens to earlier copies of the current token and to the tokens after them.",
    "QRHead (arXiv 2506.09944): attention of the question's tokens to the statement, minus the same where the question is "
    "replaced by a null query; tokens below mean − 2 standard deviations dropped. It needs no answer: n is all samples.",
    "The proof masks heads at prefill and decode and asks for the exact answer, on needles that the scan has not seen. "
    "The primary test, fixed beforehand, is the area between the matched random curve and the list's; the control is "
    "drawn from the list's own layers in the same numbers. Everything else is secondary. "
    "`proof=full` keeps the list full instead while all other heads see a window, on needles outside it, and masks the "
    "list while word problems are reasoned and answered at once.",
)

CLAIMED = (
    "Wu et al. 2024 unless named; shares with 95 % bootstrap intervals over needles. A bundled model proves no claim."
)


def report(scan: Scan) -> str:
    """One offline file. Raises TooLarge above 2.5 MB."""
    name = scan.scores.model.name if scan.scores.model else "an unverified model"
    sections = [
        Section("Finding", [*_finding(scan), _claims(scan)]),
        Section("Heads", _heads(scan)),
        Section("Proof", proof_blocks(scan)),
        Section("Recall by length and depth", [_recall(scan)]),
        *([Section("Where the top heads look", _looks(scan))] if scan.looks else []),
        Section("Samples", [_samples(scan)]),
        Section("Method", [Prose(METHOD, _parameters(scan))]),
        Section("Cost and reproduction", _reproduction(scan)),
    ]
    return Page(f"Retrieval heads of {name}", scan.model_label, sections).html()


def _finding(scan: Scan) -> list[Block]:
    good = scan.validation is not None and scan.validation.p is not None and scan.validation.p <= 0.05
    facts = {"samples": f"{scan.accepted} of {len(scan.samples)} answered"}
    if scan.scores.n:
        facts["sparsity"] = scan.sparsity
    if scan.validation and scan.validation.halves_at:
        facts["recall halves"] = f"with the top {scan.validation.halves_at} heads masked"
    return [Prose(callout=scan.verdict, tone="good" if good else "warn", facts=facts)]


def _heads(scan: Scan) -> list[Block]:
    scored = scan.scores.n > 0
    scores = scan.scores if scored else scan.companions["induction"]
    low, high = scores.interval() if scored else (None, None)
    mass, qr = (scan.companions[name].values for name in ("mass", "qrhead"))
    details = {
        (h.layer, h.head): {
            "needle mass": float(mass[h]), "QRHead": float(qr[h]), "induction": float(scan.repeats.induction[h]),
            "echo": float(scan.repeats.echo[h]), "previous token": float(scan.repeats.previous[h]),
        }
        for h in scores.rank()
    }  # fmt: skip
    marked = [(h.layer, h.head) for h in scan.scores.at_least(scan.config.threshold)] if scored else []
    what = f"Mean over n = {scores.n} samples." if scored else "No copy score: too few answers; induction is shown."
    picture = HeadMap(
        scores.values, "", f"{what} Choose a head to read its samples.", low=low, high=high, details=details,
        unit="retrieval score" if scored else "induction score", samples=scores.per_sample, marked=marked,
        sample_labels=scores.groups or () if scores.per_sample is not None else (), limits=(0.0, 1.0),
        marked_label=f"score ≥ {scan.config.threshold:g}", kv_heads=scores.kv_heads,
    )  # fmt: skip
    return [picture, _focus(scan), _table(scan)] if scored else [picture, _focus(scan)]


def _focus(scan: Scan) -> Prose:
    return Prose(tuple(focus_lines(scan)))


def _table(scan: Scan) -> Table:
    low, high = scan.scores.interval()
    raw, mass, repeats = scan.companions["raw"].values, scan.companions["mass"].values, scan.repeats
    qr, (least, most) = scan.companions["qrhead"], scan.companions["qrhead"].interval()
    rows = [
        [str(h), (scan.scores.values[h], low[h], high[h]), raw[h], mass[h], (qr.values[h], least[h], most[h]),
         repeats.induction[h], repeats.echo[h]]
        for h in scan.scores.top(LISTED)
    ]  # fmt: skip
    columns = ("head", "score (95 %)", "raw", "needle mass", "QRHead (95 %)", "induction", "echo")
    caption = f"The {len(rows)} highest; n = {scan.scores.n}, of QRHead {qr.n}."
    return Table(columns, rows, caption, heads="head", digits=2)


def _recall(scan: Scan) -> Heatmap:
    lengths, depths = scan.config.prompt_lengths, scan.config.depths
    values, counts = np.full((len(lengths), len(depths)), np.nan), np.zeros((len(lengths), len(depths)), dtype=int)
    for i, length in enumerate(lengths):
        for j, depth in enumerate(depths):
            got = [s["exact"] for s in scan.samples if (s["length"], s["depth"]) == (length, depth)]
            counts[i, j] = len(got)
            values[i, j] = np.mean(got) if got else np.nan
    caption = "Share of samples answered exactly."
    return Heatmap(
        values, [f"{n:,}" for n in lengths], [f"{d:g} %" for d in depths], "tokens", "needle depth", caption=caption,
        unit="exact recall", counts=counts,
    )  # fmt: skip


def _claims(scan: Scan) -> Table:
    rows = [[c.name, c.says, c.answer, c.evidence] for c in claims(scan)]
    return Table(("claim", "what is claimed", "this model", "figures"), rows, CLAIMED, "Published claims")


def _looks(scan: Scan) -> list[Block]:
    looks, blocks = scan.looks, []
    if looks is not None:
        names = [str(h) for h in looks.heads]
        rows = [f"→ {looks.words[r + 1]}" for r in looks.rows]
        caption = "Weights at the steps that produce the answer's tokens; the answer itself is underlined."
        blocks.append(
            TokenView.from_dense(looks.words, names, rows, looks.weights, spans=looks.spans, positions=looks.rows,
                                 caption=caption)
        )  # fmt: skip
    if scan.maps is not None:
        names = [str(h) for h in scan.maps.heads]
        blocks.append(AttentionPatterns(scan.maps.words, scan.maps.weights, names, caption="Another, short sample."))
    return blocks


def _samples(scan: Scan) -> Table:
    rows = [
        [s["needle"], s["kind"], s["tokens"], round(s["reached"]), s["recall"], "yes" if s["exact"] else "no",
         s["response"]]
        for s in scan.samples
    ]  # fmt: skip
    columns = ("needle", "kind", "tokens", "depth %", "recall", "exact", "response")
    return Table(columns, rows, "All samples; samples.parquet holds the same rows.", digits=2, limit=8)


def _parameters(scan: Scan) -> dict[str, object]:
    decoded = float(np.mean([s["decoded"] for s in scan.samples]))
    facts = {
        "template": scan.template, "null query": scan.companions["qrhead"].parameters["null_query"] or "none fits",
        "repeated segment": f"K = {scan.repeats.k}, accuracy {scan.repeats.accuracy:.2f}",
        "decoded token by token": f"{decoded:.0%} of samples", "near ties": str(scan.ties),
        "seed": scan.config.seed, "dtype": scan.config.dtype,
    }  # fmt: skip
    if scan.decision is not None:
        d = scan.decision
        facts["stop rule"] = f"{'stopped' if d.stop else 'never reached'} at stability {scan.config.until:g}"
    if scan.agreement is not None:
        facts["one forward agrees with decoding"] = "{} of {} samples".format(*scan.agreement)
    return facts


def _reproduction(scan: Scan) -> list[Block]:
    cost = scan.cost
    facts = {
        "scan": f"{cost['scan_seconds']:.0f} s", "proof": f"{cost['proof_seconds']:.0f} s",
        "peak memory": f"{cost['peak_memory_mib']:,.0f} MiB",
    }  # fmt: skip
    if "unit_seconds" in cost:
        facts["units, all sessions"] = f"{cost['unit_seconds']:.0f} s"
    files = [Download("summary.json", json.dumps(_plain(scan.summary()), indent=1))]
    if scan.scores.n:
        files += [Download(name, text) for name, text in score_files(scan.scores).items()]
    return [Prose(facts=facts), Command(scan.command), Downloads(tuple(files))]


def _plain(value: Any) -> Any:
    from workbench.jsonable import jsonable

    return jsonable(value)
