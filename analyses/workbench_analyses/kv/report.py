"""report.html of a simulation: finding, plots, every point, method, cost, command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from workbench.policies import named
from workbench.views import Block, Command, Download, Downloads, Page, Prose, Section, Table
from workbench_analyses.kv.measured import told_budget
from workbench_analyses.kv.plots import decoding, pareto, published

if TYPE_CHECKING:
    from workbench_analyses.kv.result import Simulation

BUDGET = (
    "A budget is a share of all key-value entries of the prompt, sinks and windows included. Length constants are solved "
    "from it; full heads of a list get up to half of it. Costs are counted from the masks that attention used: kept and "
    "read entries are means over the decoded steps, in units of key-value heads; an entry that several query heads of a "
    "group read is read once; a cache that a method repeats for every query head counts as often."
)
PEAK = (
    "Prefill peak: where the prompt is read by full attention, layers are cut one after the other, and the layer at work "
    "holds everything. Bytes of a paged cache round every head up to 16 tokens."
)
TOLD = (
    "Needles are told token by token behind the expected answer; recall is 1 where every token is the arg-max, so greedy "
    "decoding says it. KL and top-1 agreement are against the full cache. Perplexity: texts without a needle."
)
SEEN = (
    "The cache is cut when the whole prompt has been read, and its last token is decoded once more from the cut cache, so "
    "that the first new token, too, has to come from there. (Deployed, it comes from the full prefill.)"
)
AFTER = "The cache is cut when the haystack has been read; the question is decoded from the cut cache."
LISTS = (
    "The heads under test are compared with random ones: as many key-value heads in each layer, none of the list's; or, "
    "for policies that weigh every head, scores shuffled within layers. p = (1 + lists with as much recall) / (1 + lists)."
)

RULER = (
    "Tasks of RULER: the score is the share of the strings asked for that stand in a free greedy answer from the cut cache "
    "(any one for questions); the rows lie in ruler.jsonl. The bundled llama was trained to tell one value a question."
)


def report(result: Simulation) -> str:
    """One offline file. Raises TooLarge above 2.5 MB."""
    plots = [Section(title, blocks) for title, blocks in _plots(result) if blocks]
    refused = (f"Left out: {'; '.join(result.refused)}.",) if result.refused else ()
    timing = AFTER if result.config.question == "after" else SEEN
    sections = [
        Section("Finding", [Prose((), _facts(result), callout=result.verdict)]),
        *plots,
        Section("Every point", [Prose(refused), _table(result), *_tasks(result), _bytes(result)]),
        Section(
            "Method", [Prose((BUDGET, PEAK, TOLD, *([RULER] if result.tasks else []), timing, LISTS), _sources(result))]
        ),
        Section("Cost and reproduction", _reproduction(result)),
    ]
    return Page(f"Key-value policies on {result.model.name}", result.model_label, sections).html()


def _plots(result: Simulation) -> list[tuple[str, list[Block]]]:
    tasks: list[tuple[str, list[Block]]] = [
        (task, [figure for cost in ("kept", "read") for figure in pareto(result, cost, task)]) for task in result.tasks
    ]
    return [
        ("Recall against entries kept", list(pareto(result, "kept"))),
        ("Recall against entries read", list(pareto(result, "read"))),
        ("Recall against the work of the prefill", list(pareto(result, "prefill_share"))),
        *tasks,
        ("Published constants", list(published(result))),
        ("Decoding costs what is kept", list(decoding(result))),
    ]


def _facts(result: Simulation) -> dict[str, object]:
    return {
        "the whole cache": told_budget(result.setting),
        "heads under test": result.source,
        "needles": f"{result.config.samples}, depths {', '.join(f'{d:g}' for d in result.config.depths)} %",
        "texts without a needle": result.config.texts,
    }


def _table(result: Simulation) -> Table:
    columns = (
        "policy", "budget", "kept", "read", "prefill peak", "prefill products", "recall (95 %)", "KL (95 %)",
        "top-1 (95 %)", "perplexity (95 %)", "random lists", "p",
    )  # fmt: skip
    rows = [
        [p.label, p.budget, p.mean("kept"), p.mean("read"), p.mean("peak"), p.mean("prefill_share"), p.recall,
         p.interval("kl"), p.interval("agree"), p.perplexity,
         sum(p.controls) / len(p.controls) if p.controls else None, p.p]
        for p in result.points
    ]  # fmt: skip
    own = next((p.full_perplexity for p in result.points), float("nan"))
    caption = f"Shares of the full cache; KL in nats a token; perplexity with the full cache {own:.2f}."
    return Table(columns, rows, caption, limit=60)


def _tasks(result: Simulation) -> list[Block]:
    """Scores of RULER's rows."""
    if not result.tasks:
        return []
    columns = ("policy", "budget", *(f"{task} (95 %)" for task in result.tasks))
    rows = [[p.label, p.budget, *(p.interval("score", task) for task in result.tasks)] for p in result.points]
    full = ", ".join(f"{task} {result.full_score(task):.2f} (n = {result.asked(task)})" for task in result.tasks)
    return [Table(columns, rows, f"Scores by RULER's rule; with the full cache {full}.", limit=60)]


def _bytes(result: Simulation) -> Table:
    columns = ("policy", "budget", "bytes", "bytes in pages", "decode FLOPs a step", "prefill FLOPs", "constants")
    rows = [
        [p.label, p.budget, round(p.mean("bytes")), round(p.mean("paged_bytes")), round(p.mean("decode_flops")),
         round(p.mean("prefill_flops")), ", ".join(f"{k} {v}" for k, v in p.constants.items())]
        for p in result.points
    ]  # fmt: skip
    return Table(columns, rows, "Keys and values of a prompt at its last step; attention only.", limit=60)


def _sources(result: Simulation) -> dict[str, object]:
    policies = {p.text: named(p.text)[0] for p in result.points}
    return {text: f"{policy.help} ({policy.source})" for text, policy in policies.items()}


def _reproduction(result: Simulation) -> list[Block]:
    facts = {"time": f"{result.cost['seconds']:.0f} s", "peak memory": f"{result.cost['peak_memory_mib']:.0f} MiB"}
    files = (Download("points.json", json.dumps(result.summary()["points"], indent=1, default=str)),)
    return [Prose((), facts), Command(result.command), Downloads(files)]
