"""report.html of a calibration: eligible pairs first, heads alone, the held-out half, method, cost, command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from workbench.head_lists import act_list, head_list
from workbench.views import Block, Command, Download, Downloads, HeadMap, Page, Points, Prose, Scatter, Section, Table
from workbench.views.table import Cell
from workbench_analyses.calibration.measured import Given, Judged

if TYPE_CHECKING:
    from workbench_analyses.calibration.result import Calibration

LEAST_Q, LISTED = 1e-6, 12
COLUMNS = ("calibrated", "accuracy", "change of the margin (nats)", "mended", "spoiled", "p")
ACT = (
    "A sink is a key that a head looks at more than its share (see the parameters). Calibrating a head leaves its sinks "
    "a share beta of their weight and gives the rest to the receivers in proportion to theirs, so rows still sum to one "
    "(ACT, Yu et al. 2024, arXiv 2406.15765). Sinks are found in the prompt, head by head, as the model runs."
)
MARGIN = "The margin of a sample is the log-probability of the right choice less that of the best other. "
SELECT = (
    "Samples are halved by what they ask, beforehand. On the first half every head is calibrated alone: the primary "
    "outcome is the paired change of the margin (sign flips, two-sided), corrected over all heads tried "
    "(Benjamini–Hochberg); accuracy (exact McNemar) is secondary. Heads that help after correction are the list."
)
GIVEN = (
    "The list was given, so no head is selected. It is judged on the half of the samples that the same command without a "
    "list would keep for that, so a list that such a run chose meets no sample of its choice."
)
JUDGE = (
    "On the second half the list is calibrated at once and compared with random lists that have as many heads in each "
    "layer and none of the list's, and with all heads tried. p of the list: (1 + random lists that gain as much) / (1 + "
    "random lists)."
)


def report(result: Calibration) -> str:
    """One offline file. Raises TooLarge above 2.5 MB."""
    given = isinstance(result.measured, Given)
    method = (ACT, MARGIN + (GIVEN if given else SELECT), JUDGE)
    sections = [
        Section("Finding", _finding(result)),
        Section("The list", [_map(result)]) if given else Section("Each head alone", _alone(result)),
        Section("The list on held-out samples", _held_out(result)),
        Section("Method", [Prose(method, _parameters(result))]),
        Section("Cost and reproduction", _reproduction(result)),
    ]
    return Page(f"Calibrating the sinks of {result.model.name}", result.model_label, sections).html()


def _finding(result: Calibration) -> list[Block]:
    facts = {
        "task": result.config.task,
        "layers tried": f"{', '.join(map(str, result.layers))} of {result.n_layers}",
    }
    found, text = result.measured, ()
    if isinstance(found, Given):
        facts["list"] = found.source
    else:
        text = (f"{found.power[0].upper()}{found.power[1:]}.",)
    verdict = f"{result.verdict[0].upper()}{result.verdict[1:]}."
    return [Prose(text, callout=verdict, tone="good" if result.helps else "warn", facts=facts)]


def _alone(result: Calibration) -> list[Block]:
    return [_map(result), volcano(result), _table(result)]


def _map(result: Calibration) -> HeadMap:
    """Where there is something to calibrate, with the list marked."""
    found = result.measured
    if isinstance(found, Given):
        n, label, details = result.judgement.n, "in the list", {}
    else:
        n, label = found.n, f"helps (q ≤ {found.level:g})"
        details = {
            h: {"change of margin": float(found.gain[i]), "q": float(found.q[i])} for i, h in enumerate(found.heads)
        }
    return HeadMap(
        result.parked, "", f"Share of n = {n} prompts in which the head has a sink that is not exempt.", details=details,
        unit="share of prompts with a sink", marked=list(result.heads), marked_label=label, limits=(0.0, 1.0),
    )  # fmt: skip


def volcano(result: Calibration) -> Scatter:
    """Every head calibrated alone: what it changes against how sure that is."""
    a = result.alone
    strength = -np.log10(np.maximum(a.q, LEAST_Q))
    kinds = {"helps": set(a.helpful), "harms": set(a.harmful)}
    kinds["no effect shown"] = set(a.heads) - kinds["helps"] - kinds["harms"]
    groups = []
    for name, members in kinds.items():
        at = [i for i, h in enumerate(a.heads) if h in members]
        labels = [f"L{a.heads[i][0]}H{a.heads[i][1]}" for i in at]
        groups.append(
            Points(
                name,
                [float(a.gain[i]) for i in at],
                [float(strength[i]) for i in at],
                labels,
                name != "no effect shown",
            )
        )
    finding = f"{len(a.helpful)} heads help, {len(a.harmful)} harm, {len(kinds['no effect shown'])} show no effect"
    return Scatter(
        groups, "change of the margin (nats)", "−log₁₀ q", finding, caption=f"Every head calibrated alone; n = {a.n}.",
        y_lines=[(float(-np.log10(a.level)), f"q = {a.level:g}")],
    )  # fmt: skip


def _table(result: Calibration) -> Table:
    """Heads by how sure their effect is, so that those that harm stand at the top, too."""
    rows = [
        [f"L{r['layer']}H{r['head']}", r["gain"], r["p"], r["q"], r["mended"], r["spoiled"], r["mcnemar_p"],
         r["mcnemar_q"], f"{r['parked']:.0%}"]
        for r in sorted(result.top(), key=lambda r: (r["q"], -abs(r["gain"])))
    ]  # fmt: skip
    columns = ("head", "margin", "p", "q", "mended", "spoiled", "McNemar p", "McNemar q", "parked")
    caption = (
        "Change of the margin in nats; mended and spoiled: samples that become right, wrong; parked: share with a sink."
    )
    return Table(columns, rows, caption, heads="head", digits=4, limit=LISTED)


def _held_out(result: Calibration) -> list[Block]:
    j = result.judgement
    given = isinstance(result.measured, Given)
    rows: list[list[Cell]] = [["no edit", j.accuracy, None, None, None, None]]
    if j.chosen is not None:
        rows.append(_judged(f"the {len(result.heads)} {'given' if given else 'chosen'}", j.chosen))
    if j.controls:
        gains = np.array([c.gain for c in j.controls])
        many = "matched lists (all)" if j.enumerated else "matched random lists"
        spread = (float(gains.mean()), float(gains.min()), float(gains.max()))
        accuracy = float(np.mean([c.accuracy for c in j.controls]))
        rows.append([f"{len(gains)} {many}", accuracy, spread, None, None, None])
    rows.append(_judged(f"all {len(result.tried)} heads", j.every))
    caption = f"n = {j.n}; p of a list: sign flips against no edit."
    if j.controls:
        caption += " Of the matched lists: mean accuracy, mean and range of the margin's change."
    if j.p is not None:
        caption += f" Against them the {'given' if given else 'chosen'} list has p = {j.p:.3f}."
    text = () if j.chosen else ("No head was chosen, so there is no list to judge; all heads at once are shown.",)
    return [*([Prose(text)] if text else []), Table(COLUMNS, rows, caption, digits=4)]


def _judged(name: str, judged: Judged) -> list[Cell]:
    return [name, judged.accuracy, judged.gain, judged.mended, judged.spoiled, judged.p]


def _parameters(result: Calibration) -> dict[str, object]:
    c = result.config
    rule = f"above {c.absolute:g}" if c.absolute is not None else f"more than {c.a:g} times its share ({c.rule} rule)"
    return {
        "sink": rule, "exempt tokens": ", ".join(map(str, c.exempt)) or "none", "beta": c.beta,
        "receivers": c.receivers, "choices": f"{c.score} text" + (", per token" if c.per_token else ""), "seed": c.seed,
    }  # fmt: skip


def _reproduction(result: Calibration) -> list[Block]:
    facts = {"time": f"{result.cost['seconds']:.0f} s", "peak memory": f"{result.cost['peak_memory_mib']:.0f} MiB"}
    files = [Download("head_list.json", head_list(result.heads, result.about_list()))]
    if rows := result.rows():
        files.append(Download("heads.json", json.dumps(rows, indent=1)))
    if result.heads and not result.unlisted:
        files.append(Download("head_list_act.json", act_list(result.heads, result.n_layers)))
    note = (f"{result.unlisted[0].upper()}{result.unlisted[1:]}.",) if result.unlisted else ()
    return [Prose(note, facts), Command(result.command), Downloads(tuple(files))]
