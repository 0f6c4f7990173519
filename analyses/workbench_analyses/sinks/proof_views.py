"""The causal check and the comparison with retrieval as parts of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.views import Block, Prose, Table
from workbench.views.table import Cell
from workbench.views.text import interval, visible
from workbench_analyses.sinks.against import Against
from workbench_analyses.sinks.causal import DECIDING, EVERY, Check
from workbench_analyses.sinks.deciding import LEVEL, MATTERS

if TYPE_CHECKING:
    from workbench_analyses.sinks.result import SinkScan

LISTED = 20
PARKS = 0.1
"""Attention that must move to the sink before a retrieval head is said to park."""


def check_blocks(scan: SinkScan) -> list[Block]:
    """Verdicts first, then both measures of every edit."""
    if not scan.checks:
        return [Prose(callout="Not validated: `proof=none` was asked for, or no head has a sink.", tone="warn")]
    who = "No head parks: these come nearest. " if scan.near else ""
    what = "KL" if scan.measure == "kl" else "change of loss"
    lead = (
        f"{who}An edit matters if it costs {MATTERS[scan.measure]:g} nats of {what} more than in the controls, the 95 % "
        f"bootstrap interval of that difference, paired by text, lies above zero, and q ≤ {LEVEL:g}: one-sided sign "
        f"flips, Benjamini–Hochberg over the {len(scan.checks)} heads. Not needed: even the upper bound of the head's own "
        f"change is below {MATTERS[scan.measure]:g} nats."
    )
    return [Prose((lead,)), _verdicts(scan), _says(scan), _table(scan)]


def _verdicts(scan: SinkScan) -> Table:
    rows: list[list[Cell]] = []
    for check in _needed_first(scan):
        beyond = [check.beyond[op, scan.measure] for op in DECIDING]
        rows.append(
            [str(check.parked.head), visible(scan.words[check.parked.token]), scan.told(check),
             *(x for d in beyond for x in (d[:3], d.q)), max(d.n for d in beyond)]
        )  # fmt: skip
    columns = ("head", "sink", "verdict", "value zeroed (95 %)", "q", "key blocked (95 %)", "q", "texts")
    what = "KL" if scan.measure == "kl" else "Change of loss"
    return Table(columns, rows, f"What the sink is for. {what} in nats, head minus controls.", heads="head")


def _says(scan: SinkScan) -> Table:
    against = scan.against if isinstance(scan.against, Against) else None
    rows: list[list[Cell]] = []
    for check in _needed_first(scan):
        head = check.parked.head
        told = against.recalled(head, "key blocked") if against else None
        controls = " ".join(map(str, check.controls)) or "none in this layer"
        rows.append([str(head), check.parked.received, check.says, told and told[:3], controls])
    columns = ("head", "receives", "α·‖v‖ ÷ ‖z‖", "recall, key blocked (95 %)", "controls")
    caption = "What the sink receives and says, and the heads that its own is compared with."
    if against:
        caption += f" Recall of needles (Wilson interval): {_recalled(against)}."
    return Table(columns, rows, caption, heads="head", digits=2)


def _recalled(against: Against) -> str:
    plain = against.unedited()
    edited = [r.n for head in against.recall if (r := against.recalled(head, "key blocked")) is not None]
    said = f"unedited {interval(*plain[:3], 2)}, n = {plain.n}"
    return f"{said}; with the key blocked n = {max(edited)} of them" if edited else said


def _table(scan: SinkScan) -> Table:
    """Of planted models the KL only: they predict nothing, so their loss means nothing."""
    trained, rows = scan.measure == "loss", []
    measures = ("loss", "control_loss", "kl", "control_kl") if trained else ("kl", "control_kl")
    for check in _needed_first(scan):
        for op in EVERY:
            rows.append([str(check.parked.head), op, *(check.change(op, what) for what in measures)])
    columns = ("head", "edit", *(("Δ loss (95 %)", "controls") if trained else ()), "KL (95 %)", "controls: KL")
    loss = "Next-token loss, edited minus plain, and " if trained else ""
    caption = (
        f"{loss}KL(plain ‖ edited) per row, in nats; 95 % intervals over {len(scan.natural.first)} texts. With no first "
        "token kept, renumbering changes nothing."
    )
    return Table(columns, rows, caption, heads="head", limit=len(EVERY) * 2)


def _needed_first(scan: SinkScan) -> list[Check]:
    return sorted(scan.checks, key=lambda check: check.needed(scan.measure) is not True)


def retrieval_blocks(scan: SinkScan) -> list[Block]:
    """Both columns of every head, and where retrieval heads look when there is nothing to retrieve."""
    against = scan.against
    if not isinstance(against, Against):
        return [Prose(callout=against[0].upper() + against[1:] + ".", tone="warn")]
    strongest = scan.companions["strongest"]
    first, any_place = (x.compare(against.retrieval).spearman for x in (scan.scores, strongest))
    both: list[list[Cell]] = [
        [str(h), float(scan.scores.values[h]), float(strongest.values[h]), float(against.retrieval.values[h])]
        for h in (*against.retrieval.rank(),)
    ]
    columns = Table(
        ("head", scan.score_name, "strongest sink", "retrieval score"), both,
        f"All heads by retrieval score. Spearman with it: {scan.score_name} {first:.2f}, what the strongest sink receives "
        f"{any_place:.2f}; {len(both)} heads.",
        heads="head", digits=2, limit=LISTED,
    )  # fmt: skip
    rows: list[list[Cell]] = []
    for head in against.retrieval_heads():
        asked, idle, change = against.parking(head)
        rows.append([str(head), float(against.retrieval.values[head]), asked, idle, change])
    if not rows:
        return [columns, Prose(("No head copies: nothing can be said of retrieval heads.",))]
    parking = Table(
        ("head", "retrieval score", "with the needle", "without", "change (95 %)"), rows,
        f"Mass on the head's sink in the row that is to produce the answer, same prompt with the statement and without "
        f"it; n = {against.n}.", heads="head", digits=2,
    )  # fmt: skip
    return [Prose((_parks(scan, against),)), parking, columns]


def _parks(scan: SinkScan, against: Against) -> str:
    """The answer to the question, in a sentence."""
    heads = against.retrieval_heads()
    more = [h for h in heads if against.parking(h)[2][1] > PARKS]
    return (
        f"{len(more)} of {len(heads)} retrieval heads move more than {PARKS:g} of their attention to their sink when there "
        "is nothing to retrieve (lower bound of the interval)."
    )
