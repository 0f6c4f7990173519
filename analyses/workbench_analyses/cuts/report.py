"""The page of a cut: the slider, the curve behind it, how it was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.exporters.duo_attention import config_text
from workbench.jsonable import dumps
from workbench.views import Block, Command, Curves, Page, Prose, Section, Series, Table
from workbench.views.cut_slider import CutSlider, Stop

if TYPE_CHECKING:
    from workbench_analyses.cuts.result import Cuts

MEASURED = (
    "The best heads of the list stay full, all others keep the first tokens and the last ones, in the simulator of cache "
    "policies. Every cut is asked for the same needles, all outside that window. Recall: the whole answer is what greedy "
    "decoding from the cut cache says; the prompt's last token is decoded once more from it. A list that was found on "
    "other needles is not tuned on these; a cut that is chosen here is, so confirm it: `workbench export RUN recall=…` "
    "searches on one set of needles and reports on another."
)
BETWEEN = "Between measured points recall and interval lie on a straight line, and the page says so."
PREFILL = {
    "full": "The prompt is read by plain attention, then the cache is cut: DuoAttention's prefill in one go.",
    "streaming": "Streaming heads read the prompt in their window, too.",
    "chunked": "The prompt is read by chunks: rows of streaming heads see their own chunk, and the window before it.",
}
COST = "Kept: full heads hold every token, streaming heads their first and last ones, at the tokens served."


def report(result: Cuts) -> str:
    """One offline file."""
    facts = {"time": f"{result.cost['seconds']:.0f} s", "peak memory": f"{result.cost['peak_memory_mib']:.0f} MiB"}
    again: list[Block] = [Prose((), facts), Command(result.command)]
    sections = [
        Section("Finding", [Prose((), {"list": result.source.describe()}, callout=result.verdict)]),
        Section("Where to cut", [slider(result)]),
        Section("Recall by heads kept full", [curve(result), _table(result)]),
        Section("Method", [Prose((MEASURED, PREFILL[result.config.prefill], BETWEEN, COST))]),
        Section("Cost and reproduction", again),
    ]
    return Page(f"Where to cut the list of {result.model.name}", result.model_label, sections).html()


def slider(result: Cuts) -> CutSlider:
    """The head map with the cut that moves, at first where recall is nearly that of all heads."""
    how, scores, every = result.how, result.scores, stops(result)
    run, unscored = result.config.run or "RUN", "" if scores.scored.all() else " unscored=full"
    window = f"sink_size={how.sink_size} recent_size={how.recent_size}"
    enough = result.ks[-1] if result.enough is None else result.enough
    return CutSlider(
        scores.ranking, scores.rank(), every, result.curve, how.sink_size, how.recent_size, result.config.served,
        f"Recall on {result.told.shape[1]} needles in prompts of {result.config.context:,} tokens, 95 % Wilson intervals.",
        f"workbench export {run} format=duo-attention {{option}} {window}{unscored}",
        config_text(how.sink_size, how.recent_size, sparsity=None).replace("null", "{sparsity}"), result.source.method,
        caption="Files are those that the command writes, byte for byte; `retrieval.json` is that of "
        "`format=golden-stick`. Rows are layers, columns key-value heads.",
        start=next(i for i, stop in enumerate(every) if stop.full >= enough),
    )  # fmt: skip


def stops(result: Cuts) -> list[Stop]:
    """No head full, then every score at which a threshold lets in more."""
    scores, size = result.scores, result.scores.values.size
    lines = sorted({float(scores.ranking[head]) for head in scores.rank()}, reverse=True)
    fixed = int((~scores.scored).sum())
    fulls = [(0, f"sparsity={dumps((size - fixed) / size)}")]
    fulls += [(len(scores.at_least(line)), f"threshold={line!r}") for line in lines]
    return [Stop(k, option, dumps(1 - (k + fixed) / size)) for k, option in fulls]


def curve(result: Cuts) -> Curves:
    """Recall against full heads."""
    ks, y, low, high = zip(*result.curve, strict=True)
    series = [Series("best heads of the list full", ks, y, low, high)]
    caption = f"n = {result.told.shape[1]} needles; band: 95 % Wilson intervals."
    finding = "; ".join(f"{r:.2f} with {k}" for k, r in zip(ks, y, strict=True))
    return Curves(series, "key-value heads kept full", "needle recall", finding, caption=caption)


def _table(result: Cuts) -> Table:
    columns = ("full heads", "recall (95 %)", f"kept at {result.config.served:,} tokens", "kept at the prompts' length")
    rows = [
        [k, (y, low, high), result.share(k), result.share(k, result.config.context)] for k, y, low, high in result.curve
    ]
    return Table(columns, rows, "Shares of all key-value entries.")
