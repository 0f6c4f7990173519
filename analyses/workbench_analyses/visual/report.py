"""report.html of a visual scan: finding, behaviour, heads, their agreement, words, pictures, interventions, method, cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from workbench.jsonable import jsonable
from workbench.scores_io import score_files
from workbench.views import (
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
)
from workbench_analyses.visual.pictures import picture_blocks
from workbench_analyses.visual.tables import chair_rows, partner_rows, pope_rows

if TYPE_CHECKING:
    from workbench.heads import HeadScores
    from workbench_analyses.visual.result import VisualScan

MOST_BYTES = 4_000_000
MAPPED = ("vhd", "vhd_blank", "image_mass", "causal_contrast", "localisation", "visual_sinks")
UNITS = {
    "vhd": "‖z − z without the picture‖", "vhd_blank": "‖z − z with a blank picture‖", "image_mass": "share of attention",
    "localisation": "− spatial entropy, nats",
    "visual_sinks": "share of attention on the picture",
}  # fmt: skip
OF_CONTRAST = {
    "probability": ("probability, invented − correct", "raises", "above 0 it drives invention"),
    "log": ("log p in nats, invented − correct", "raises the log-probability of", "above 0 it drives invention"),
    "absolute": ("|Δp|, invented − correct", "changes, up or down,", "it has no direction"),
}
"""Unit of the causal contrast, what a head does, and what the sign says."""
CAPTIONS = {
    "vhd": "How far a head's output moves when the picture is taken out of the text, at the row that predicts each word.",
    "vhd_blank": "The same against a blank picture, a prompt of the usual length.",
    "image_mass": "Attention on the picture at the rows that predict words. A head may look and say nothing of it.",
    "causal_contrast": "How much more a head {does} words for what is not there than words for what is; {sign}.",
    "localisation": "At the prompt's last token: 0 is one place of the picture. Heads below the elbow of attention on the "
    "picture are not scored.",
    "visual_sinks": "Of the attention on the picture, what lies on parts that stand out in the model's sink dimensions.",
}
METHOD = (
    "Heads are scored on one greedy caption a picture, read again with the picture, without it and with a blank one. VHD: "
    "He et al. 2025, arXiv 2412.13949, Eq. 4; T-VHD Eq. 5 with half of each layer's heads. Without the picture its "
    "placeholders are cut out of the prompt, which the model has hardly seen in training; the plain norm favours heads that "
    "are loud anyway: read it beside the relative and the cosine form, and beside the blank picture (every pixel at the "
    "middle of the processor's scale).",
    "Causal contrast: Yang et al. 2025 (AD-HH, ICLR): the head's output is zeroed at all positions of the caption as it was "
    "said, and the probability of each word that names an object is compared. A word of several tokens counts at its first. "
    "The score is the mean over invented words minus the mean over correct ones; which words are invented is the model's "
    "own doing, so the two kinds differ in more than that (invented ones come where the caption is unsure).",
    "Localisation: Kang et al. 2025, arXiv 2503.06287. Visual sinks: Kang et al. 2025, arXiv 2503.03321; sink dimensions are "
    "those in which the first token exceeds τ as it enters at least half of the blocks. Image mass: arXiv 2505.16411, "
    "2411.16724. All scores say what heads do in these captions; only the table of interventions says whether acting on "
    "them helps.",
    "CHAIR: Rohrbach et al. 2018, arXiv 1809.02156. POPE: Li et al. 2023, arXiv 2305.10355; adversarial objects are those "
    "that most often go with what is there. Intervals are 95 % percentile bootstraps over pictures.",
)


def report(scan: VisualScan) -> str:
    """One offline file. Raises TooLarge above 4 MB."""
    name = scan.config.model
    sections = [
        Section("Finding", _finding(scan), scan.conditions + "."),
        Section("What it says", _behaviour(scan)),
        Section("Heads", _heads(scan)),
        Section("Do the scores agree?", _agreement(scan)),
        Section("Words", _words(scan)),
        Section("In the picture", picture_blocks(scan)),
        Section("Does acting on heads help?", _table(scan)),
        Section("Method", [Prose(METHOD, _parameters(scan))]),
        Section("Cost and reproduction", _reproduction(scan)),
    ]
    return Page(f"Visual heads of {name}", scan.model_label, sections, max_bytes=MOST_BYTES).html()


def _finding(scan: VisualScan) -> list[Block]:
    shown = not isinstance(scan.table, str) and scan.table.found
    told = (scan.verdict.removeprefix(scan.sentence).removeprefix("; "),)
    return [Prose(callout=scan.sentence + ".", tone="good" if shown else "warn", paragraphs=(f"{told[0]}.",))]


def _behaviour(scan: VisualScan) -> list[Block]:
    captions = Table(
        ("captions of", "CHAIR_S", "CHAIR_I", "CHAIR_I distinct", "recall", "words", "unique words", "said twice"),
        [list(row) for row in chair_rows(scan)],
        "CHAIR_S: captions that invent an object; CHAIR_I: of all mentions; distinct: each object once a caption. Recall: "
        "objects that are named. A lower CHAIR with a lower recall is no gain.", digits=2,
    )  # fmt: skip
    asked = Table(
        ("questions about", "negatives", "n", "accuracy", "precision", "recall", "F1", "says yes", "yes to absent",
         "unparsed"), pope_rows(scan),
        "POPE: as many objects that are there as others. Unparsed: neither yes nor no in the first sentence.", digits=2,
    )  # fmt: skip
    rows = partner_rows(scan)
    if not rows:
        return [captions, asked]
    p = scan.behaviour.partner
    assert p is not None
    caption = (
        f"{p.n} questions about {p.pictures} counterfactual scenes, in which a leader stands without its partner. The ideal "
        "observer knows the pixels' noise and the habit of ordinary scenes; what the model says beyond it is its own. The "
        "AUC compares partners that are there (ordinary scenes) with absent ones: a mere shift of the threshold leaves it."
    )
    return [captions, asked, Table(("absent partners", "figure"), rows, caption, digits=3)]


def _heads(scan: VisualScan) -> list[Block]:
    maps: list[Block] = []
    for name in (n for n in MAPPED if n in scan.scores):
        scores = scan.scores[name]
        low, high = scores.interval()
        top = float(np.nanmax(np.abs(scores.values))) or 1.0
        limits = (-top, top) if name == "causal_contrast" else None
        if not np.nanmax(scores.values) > np.nanmin(scores.values):
            maps.append(
                Prose((f"{scan.names[name]}: {np.nanmax(scores.values):.2f} in all heads. {_nothing(scan, name)}",))
            )
            continue
        unit, caption = _about(name, scores)
        maps.append(
            HeadMap(
                scores.values, scan.names[name], f"{caption} n = {scores.n}; 95 % interval over pictures.",
                unit=unit, low=low, high=high, kv_heads=scores.kv_heads, limits=limits,
            )
        )  # fmt: skip
    maps += [Prose((f"{scan.names[n]} left out: {why}.",)) for n, why in scan.heads.left_out.items()]
    return [*maps, _all(scan)]


def _about(name: str, scores: HeadScores) -> tuple[str, str]:
    """Unit and caption."""
    if name != "causal_contrast":
        return UNITS[name], CAPTIONS[name]
    unit, does, sign = OF_CONTRAST[scores.parameters["measure"]]
    return unit, CAPTIONS[name].format(does=does, sign=sign)


def _nothing(scan: VisualScan, name: str) -> str:
    if name == "visual_sinks" and not scan.heads.dims:
        return f"No dimension stands out at the first token (τ = {scan.heads.tau:.1f}), so there are no visual sinks."
    return ""


def _all(scan: VisualScan) -> Table:
    names, bounds = list(scan.scores), {n: s.interval() for n, s in scan.scores.items()}
    rows = [
        [str(h), *((float(scan.scores[n].values[h]), float(bounds[n][0][h]), float(bounds[n][1][h])) for n in names)]
        for h in scan.scores["vhd"].rank()
    ]
    caption = "Every score of every head with its 95 % interval, by VHD; n/a: not scored."
    return Table(("head", *(scan.names[n] for n in names)), rows, caption, heads="head", limit=10)


def _agreement(scan: VisualScan) -> list[Block]:
    names = list(scan.scores)
    size = len(names)
    rho, low, high = (np.full((size, size), np.nan) for _ in range(3))
    for a in scan.agreements:
        for i, j in ((names.index(a.first), names.index(a.second)), (names.index(a.second), names.index(a.first))):
            rho[i, j], low[i, j], high[i, j] = a.spearman, a.low, a.high
    labels = [scan.names[n] for n in names]
    caption = (
        "Spearman's ρ between rankings of heads; 95 % interval: pictures are drawn again for both scores at once. Hatched: "
        "a score ranks no heads, or stands against itself. Scores that disagree answer different questions."
    )
    return [
        Heatmap(rho, labels, labels, "score", "score", caption=caption, unit="Spearman’s ρ", low=low, high=high,
                limits=(-1.0, 1.0))
    ]  # fmt: skip


def _words(scan: VisualScan) -> list[Block]:
    rows = [[name, n, tuple(figure)] for name, (figure, n) in scan.t_vhd().items()]
    caption = (
        "T-VHD of the words that name objects, in captions of the score set: lower where a word owes less to the picture. "
        "It is a sum over layers and heads, comparable only within a model."
    )
    return [Table(("words", "n", "T-VHD (95 %)"), rows, caption, digits=2)]


def _table(scan: VisualScan) -> list[Block]:
    if isinstance(scan.table, str):
        return [Prose(callout=scan.table + ".", tone="warn")]
    return scan.table.blocks()


def _parameters(scan: VisualScan) -> dict[str, object]:
    c = scan.config
    return {
        "pictures": scan.source, "skipped": "; ".join(scan.skipped) or "none", "tokens of a caption": f"at most {c.most}",
        "causal contrast of": c.contrast, "τ of Φ": f"{scan.heads.tau:.2f}",
        "sink dimensions": ", ".join(map(str, scan.heads.dims)) or "none", "seed": c.seed, "dtype": c.dtype,
    }  # fmt: skip


def _reproduction(scan: VisualScan) -> list[Block]:
    facts = {name.removesuffix("_seconds"): f"{x:.0f} s" for name, x in scan.cost.items() if name.endswith("_seconds")}
    facts["peak memory"] = f"{scan.cost['peak_memory_mib']:,.0f} MiB"
    files = [Download("summary.json", json.dumps(jsonable(scan.summary()), indent=1))]
    files += [Download(name, text) for name, text in score_files(scan.scores["vhd"]).items()]
    return [Prose(facts=facts), Command(scan.command), Downloads(tuple(files))]
