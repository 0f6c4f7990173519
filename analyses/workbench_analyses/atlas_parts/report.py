"""report.html of an atlas: finding, the maps with their cards, the best heads of every score, method, reproduction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from workbench.jsonable import jsonable
from workbench.scores_io import score_files
from workbench.views import Block, Command, Download, Downloads, Page, Prose, Section, Table
from workbench.views.head_atlas import AtlasPicture, AtlasScore, AtlasSide, HeadAtlas
from workbench.views.text import visible
from workbench_analyses.atlas_parts.patterns import LEAST_LEFT, NEAR, RAW, REST
from workbench_analyses.atlas_parts.pictures import FAINTEST, LEVELS
from workbench_analyses.atlas_parts.result import best

if TYPE_CHECKING:
    from workbench_analyses.atlas_parts import result
    from workbench_analyses.atlas_parts.side import Picture, Side

TOP = 5
BOUNDED = 2048
"""Heads up to which the page carries intervals; scores.parquet has them always."""
METHOD = (
    "Self-attention, previous token, entropy, QK distance, its variance and induction are HeadVis' corpus metrics (Luger, "
    "Kamath et al. 2026, transformer-circuits.pub/2026/headvis) as Neuronpedia computes them: means over all rows of all "
    "texts together, for induction over the rows whose token stood in the text before. Ours beside them: duplicate token, "
    f"near (the last {NEAR} tokens), first token, and on repeated random tokens echo and induction (arXiv 2407.15891).",
    f"`{REST}`: the keys that the corrected sink rule names in a head and text (see `scan-sinks`) get no weight, and each "
    f"row is renormalised; rows with less than {LEAST_LEFT:.0%} left are dropped and counted (`rows dropped`). In texts of "
    "fewer than 32 tokens the rule finds nothing; IOI prompts and needles are scored on the whole pattern only.",
    "Retrieval: needles as in `scan-heads` (arXiv 2404.15574), answered ones only. IOI: attention between labelled places "
    "(arXiv 2211.00593). Intervals: 95 %, percentile bootstrap over texts or prompts. Everything is exact and taken block "
    "by block; no whole pattern is ever stored.",
    "What reading a token raises: the mean of the head's values of that token over the corpus, minus the mean of all its "
    "values, through W_O, the final norm and the unembedding (OV circuit, Elhage et al. 2021); the three tokens with the "
    "largest logits. Later layers are left out, and nothing is said of how much it matters.",
    "A score says where a head looks, not what it causes. Validate a list with `scan-heads`, `scan-sinks` or "
    "`trace-circuit` before it is used.",
)


def report(found: result.HeadAtlas) -> str:
    """One offline file. Raises TooLarge above 2.5 MB."""
    names = " and ".join(side.model.name for side in found.sides)
    sections = [
        Section("Finding", [Prose(callout=found.verdict + ".", tone="warn", facts=_facts(found))]),
        Section("Every head", [view(found)], "Choose a head on a map or in the scatter; its card is below."),
        Section("Highest heads", [_table(side) for side in found.sides]),
        Section("Method", [Prose(METHOD, _parameters(found))]),
        Section("Cost and reproduction", _reproduction(found)),
    ]
    return Page(f"Head atlas of {names}", " · ".join(s.label for s in found.sides), sections).html()


def view(found: result.HeadAtlas) -> HeadAtlas:
    """The maps, the scatter and the cards."""
    scores = {
        s.key: AtlasScore(s.key, s.measure.title, s.measure.unit, s.measure.help, s.estimate.n,
                          s.version if len(s.measure.versions) > 1 else "")
        for side in reversed(found.sides) for s in side.scores
    }  # fmt: skip
    known = [s.key for s in found.side.scores if not np.isnan(s.estimate.values).all()]
    x = next(k for k in ("retrieval", "repeats_induction", *known) if k in known)
    y = next(k for k in ("repeats_induction", "previous", *known) if k in known and k != x)
    caption = (
        f"{RAW}: the whole pattern. Pictures: mean attention of a block's queries to its keys, logarithmic from "
        f"{FAINTEST:g} (dark) to 1; marks below them: named parts. Drag over the scatter or press space on a map to select."
    )
    path = found.path or "RUN"
    export = (
        "Any other serving format: download scores.json, then "
        f"workbench export selection-scores.json format=NAME threshold=0.5 kv_heads={found.side.kv_heads} "
        f"(workbench formats lists them). All heads for HeadVis: workbench export {path} format=headvis."
    )
    order = [s.key for s in found.side.scores] + [k for k in scores if k not in found.keys]
    return HeadAtlas([scores[k] for k in order], [_side(s) for s in found.sides], x, y, LEVELS, caption, export)


def _side(side: Side) -> AtlasSide:
    many = side.scores[0].estimate.values.size > BOUNDED
    values = {}
    for s in side.scores:
        e = s.estimate
        values[s.key] = (e.values, *((np.full_like(e.values, np.nan),) * 2 if many else (e.low, e.high)))
    used = sorted({int(i) for i in side.reads.ravel()})
    places = {word: i for i, word in enumerate(used)}
    reads = np.vectorize(places.__getitem__, otypes=[int])(side.reads)
    words = [visible(side.words[i]) for i in used]
    pictures = [AtlasPicture(p.name, _shares(p), p.levels) for p in side.pictures]
    says, raised = ((), None) if side.raised is None else (side.raised.words, side.raised.places)
    return AtlasSide(
        side.label, side.kv_heads, values, side.profiles, words, reads, side.shares, pictures,
        [visible(w) for w in says], raised,
    )  # fmt: skip


def _shares(p: Picture) -> dict[str, tuple[float, float]]:
    return {name: (a / len(p.words), b / len(p.words)) for name, (a, b) in p.spans.items()}


def _facts(found: result.HeadAtlas) -> dict[str, object]:
    facts: dict[str, object] = {}
    for side in found.sides:
        before = f"{side.model.name}: " if found.also else ""
        for i, note in enumerate(side.notes):
            name, _, rest = note.partition(": ")
            facts[f"{before}{name if i == 0 else 'note'}"] = rest if i == 0 else note
        facts |= {f"{before}left out, {name}": why for name, why in side.left_out.items()}
    return facts


def _table(side: Side) -> Table:
    rows = []
    for s in side.scores:
        e = s.estimate
        for h in best(s, TOP):
            rows.append(
                [s.measure.title, s.version, str(h), (float(e.values[h]), float(e.low[h]), float(e.high[h])), e.n]
            )
    columns = ("score", "version", "head", "value (95 %)", "n")
    return Table(columns, rows, f"{side.label}: the {TOP} highest of each score.", heads="head", limit=TOP * 4)


def _parameters(found: result.HeadAtlas) -> dict[str, object]:
    c = found.config
    return {
        "corpus texts": c.samples, "texts of repeated tokens": c.repeats, "needles": c.needles,
        "IOI prompts": c.ioi, "seed": c.seed, "dtype": c.dtype,
    }  # fmt: skip


def _reproduction(found: result.HeadAtlas) -> list[Block]:
    cost = found.cost
    facts = {"this session": f"{cost['seconds']:.0f} s", "peak memory": f"{cost['peak_memory_mib']:,.0f} MiB"}
    if "unit_seconds" in cost:
        facts["units, all sessions"] = f"{cost['unit_seconds']:.0f} s"
    files = [Download("summary.json", json.dumps(jsonable(found.summary()), indent=1))]
    files += [Download(name, text) for name, text in score_files(found.primary).items()]
    return [Prose(facts=facts), Command(found.command), Downloads(tuple(files))]
