"""report.html of a calibration: eligible pairs first, heads alone, the held-out half, method, cost, command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from workbench.head_lists import act_list, head_list
from workbench.views import Block, Command, Download, Downloads, HeadMap, Page, Points, Prose, Scatter, Section, Table
from workbench_analyses.calibration.measured import Given
from workbench_analyses.calibration.terminal import LISTS, list_rows

if TYPE_CHECKING:
    from workbench_analyses.calibration.result import Calibration

LEAST_Q = 1e-6
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
    return [Prose(text, callout=result.verdict, tone="good" if result.helps else "warn", facts=facts)]


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
        groups, "change of the margin (nats)", "−log10 q", finding, caption=f"Every head calibrated alone; n = {a.n}.",
        y_lines=[(float(-np.log10(a.level)), f"q = {a.level:g}")],
    )  # fmt: skip


def _table(result: Calibration) -> Table:
    rows = [
        [f"L{r['layer']}H{r['head']}", r["gain"], r["p"], r["q"], r["mended"], r["spoiled"], r["mcnemar_p"],
         r["mcnemar_q"], r["parked"]]
        for r in result.top()
    ]  # fmt: skip
    columns = ("head", "margin", "p", "q", "mended", "spoiled", "McNemar p", "McNemar q", "parked")
    caption = (
        "Change of the margin in nats; mended and spoiled: samples that become right, wrong; parked: share with a sink."
    )
    return Table(columns, rows, caption, heads="head", digits=4)


def _held_out(result: Calibration) -> list[Block]:
    j = result.judgement
    caption = f"n = {j.n}; p of a list: sign flips against no edit."
    if j.p is not None:
        caption += f" Against the matched random lists the chosen list has p = {j.p:.3f}."
    text = () if j.chosen else ("No head was chosen, so there is no list to judge; all heads at once are shown.",)
    return [Prose(text), Table(LISTS, [list(row) for row in list_rows(result)], caption)]


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
