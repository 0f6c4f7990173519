"""report.html of a trace: finding, graph, heads with evidence, stages, how they were chosen, quality, method, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.views import (
    Block,
    CircuitGraph,
    Command,
    Download,
    Downloads,
    HeadMap,
    Page,
    Prose,
    Section,
    Table,
)
from workbench_analyses.circuits.entering import TAUS
from workbench_analyses.circuits.evidence import ATTENDED
from workbench_analyses.circuits.published import against_key
from workbench_analyses.circuits.quality_views import quality_blocks
from workbench_analyses.circuits.roles import SCORE
from workbench_analyses.circuits.tracing import Choice, Traced

if TYPE_CHECKING:
    from workbench_analyses.circuits.result import Trace

CHOICES = 6
"""Channels and labels shown of each depth, beside those that were followed."""
METHOD = (
    "An effect is the change of the logit difference (answer less foil) when only the path from a head to the receivers "
    "carries the head's output of the corrupted prompt: path patching (Wang et al. 2022, arXiv 2211.00593), in closed form "
    "and exact for all heads at once. Its share is the mean effect over the mean gap between corrupted and clean prompts; "
    "negative shares work against the change. A head enters a stage if the end of its 95 % bootstrap interval (over "
    "prompts) that is nearer to zero exceeds the threshold and its sign is the same in two disjoint halves. The interval "
    "is not corrected over heads: of heads without any effect about .4 in 100 would enter where the standard error is as "
    "large as the threshold, 2 where it is twice as large, up to 6 where it is far larger.",
    "The first stage reaches the logits. From the heads of a stage that act at one label, q, k and v at all labels are "
    "swept (labels that at least half of the prompts have); followed is the channel and label with the largest summed "
    "|effect| and any with the share of it that `follow` says, if above the threshold. The rule knows no task. An edge is "
    "the same with one receiver by itself; keys and values belong to all query heads of a key-value head, so these answer "
    "together.",
    f"A role needs evidence: attention of at least {ATTENDED} from the stage's label to a label, and for movers that the "
    f"head raises (lowers, answers) in at least {SCORE:.0%} of prompts, top 5; for finders that the attended label "
    f"holds the same word, what followed it, or the token before, in most prompts, or a score of at least {SCORE} on the "
    f"task's words repeated. A head without it has an effect without role.",
    "Heads that do the same in both prompts are invisible to patching: the ablation column gives each head the output of a "
    "prompt that asks for neither answer, everywhere, and counts it against the clean difference by the same rule.",
)


def report(result: Trace) -> str:
    """One offline file. Raises TooLarge above 2.5 MB."""
    c = result.circuit
    sections = [Section("Finding", _finding(result), f"{result.behaviour.words()}.")]
    if c.heads:
        sections += [
            Section("Circuit", [CircuitGraph([c], caption=_graph_caption(result)), _heads(result)]),
            Section("Stages", [_counts(result), *(_map(one, result.config.tau) for one in result.stages)]),
            Section("How the next stage was chosen", [_choices(result)]),
        ]
    sections += [
        Section("Ablation", _ablation(result)),
        Section("Quality", quality_blocks(result.quality, c, result.unmeasured)),
        *([Section("Against the published circuit", _published(result))] if result.config.key else []),
        Section("Method", [Prose(METHOD, _parameters(result))]),
        Section("Cost and reproduction", _reproduction(result)),
    ]
    return Page(f"The {c.task} circuit of {c.model.name}", result.model_label, sections).html()


def _finding(result: Trace) -> list[Block]:
    c = result.circuit
    good = not any(x in result.verdict for x in ("NO head", "NOT faithful", "NOT measured"))
    facts: dict[str, object] = {
        "task": f"{c.task}, corrupted: {c.corruption}", "prompts": c.n,
        "carry the change": f"{len(c.carrying)} heads", "needed (ablation)": f"{len(c.needed)} heads",
    }  # fmt: skip
    if result.left_out:
        facts["left out"] = f"{len(result.left_out)} words or templates that this tokenizer does not hold"
    return [Prose((), callout=result.verdict, tone="good" if good else "warn", facts=facts)]


def _graph_caption(result: Trace) -> str:
    return (
        "Layers from below. Width of an edge: its share of the gap, receiver by receiver. Choose a head to see the paths "
        f"through it. Edges below {result.config.tau:.1%} of the gap, by the lower bound, are not drawn."
    )


def _heads(result: Trace) -> Table:
    rows = [
        [h.stage, f"L{h.head[0]}H{h.head[1]}", (h.share, h.low, h.high), h.role, h.words()]
        for h in result.circuit.heads
    ]  # fmt: skip
    caption = "Share of the gap with its 95 % interval over prompts. Evidence: means over the clean prompts."
    return Table(("stage", "head", "share", "role", "evidence"), rows, caption, heads="head")


def _counts(result: Trace) -> Table:
    rows = [
        [one.stage.name, _names(one.stage.receivers) or "logits", one.stage.gap, *one.found.counts().values()]
        for one in result.stages
    ]  # fmt: skip
    columns = ("stage", "receivers", "all they can get", *(f"heads > {tau:.1%}" for tau in TAUS))
    caption = (
        "All they can get: the share of the gap when the receivers get everything of the corrupted prompt, heads, MLPs "
        "and embeddings together. Heads that enter, by threshold."
    )
    return Table(columns, rows, caption)


def _map(one: Traced, tau: float) -> HeadMap:
    widest = float(np.abs(one.found.share).max()) or 1.0
    return HeadMap(
        one.found.share, f"Stage {one.stage.name}", "Share of the gap that each head carries, with 95 % intervals.",
        unit="share of the gap", low=one.found.low, high=one.found.high, marked=list(one.heads(tau)),
        marked_label="enters", limits=(-widest, widest) if float(one.found.share.min()) < -tau else (0.0, widest),
    )  # fmt: skip


def _choices(result: Trace) -> Table:
    shown: list[Choice] = []
    for key in dict.fromkeys((c.depth, c.receivers) for c in result.choices):
        group = [c for c in result.choices if (c.depth, c.receivers) == key]
        shown += [c for i, c in enumerate(group) if c.followed or i < CHOICES]
    rows = [
        [c.depth, _names(c.receivers), c.channel, c.label, c.whole, c.size, "yes" if c.followed else ""] for c in shown
    ]
    caption = (
        f"On {min(result.config.explore, result.circuit.n)} prompts, over the gap: |effect| of the whole corrupted run "
        f"through the receivers, and summed |effect| of all heads, each by itself; of each depth the {CHOICES} largest and "
        "all that were followed."
    )
    if result.config.screen:
        caption += (
            " Heads were not asked one by one (n/a) where everything together changes less than a quarter of tau."
        )
    columns = ("depth", "receivers", "channel", "label", "everything", "summed |effect|", "followed")
    return Table(columns, rows, caption)


def _ablation(result: Trace) -> list[Block]:
    if result.ablation is None:
        return [Prose(("This task has no corruption that asks for neither answer, so no column of ablations.",))]
    found = result.ablation.found
    only = [h for h in result.circuit.needed if h not in result.circuit.carrying]
    text = f"Shown by ablation only: {_names(only)}." if only else "Ablation shows no head that patching does not."
    picture = HeadMap(
        found.share, "", "Share of the clean logit difference that goes with the head's own output, 95 % intervals.",
        unit="share of the clean difference", low=found.low, high=found.high, marked=list(result.circuit.needed),
        marked_label="needed",
    )  # fmt: skip
    return [Prose((text,)), picture]


def _published(result: Trace) -> list[Block]:
    assert result.config.key is not None
    found = against_key(result.circuit, result.config.key)
    rows = [
        [role, f"L{head[0]}H{head[1]}", "yes" if there else "NO", here, rank]
        for role, head, there, here, rank in found.rows
    ]
    text = f"{found.key.source}: {found.words}."
    if found.beside:
        text += f" Beside them: {_names(found.beside)}."
    columns = ("published role", "head", "found", "role here", "rank here")
    return [Prose((text,)), Table(columns, rows, heads="head", limit=40)]


def _parameters(result: Trace) -> dict[str, object]:
    c = result.config
    return {
        "threshold": f"{c.tau:.1%} of the gap", "followed": f"{c.follow:.0%} of the largest or more", "MLPs": c.mlps,
        "stages": f"at most {c.depth}", "ablation outside a circuit": c.ablation, "seed": c.seed,
    }  # fmt: skip


def _reproduction(result: Trace) -> list[Block]:
    facts = {"time": f"{result.cost['seconds']:.0f} s", "peak memory": f"{result.cost['peak_memory_mib']:.0f} MiB"}
    files = (Download("circuit.json", result.circuit.json()), Download("heads.csv", result.circuit.csv()))
    return [Prose(facts=facts), Command(result.command), Downloads(files)]


def _names(heads: object) -> str:
    return ", ".join(f"L{layer}H{head}" for layer, head in heads)  # pyright: ignore
