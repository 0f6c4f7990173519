"""Sinks against retrieval: are they the same heads, and do retrieval heads park when there is nothing to retrieve?

Needles are asked for twice in the same prompt, once with the statement and once without it (its tokens left out). The
row that is to produce the answer's first token tells how much of it lies on the head's sink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from workbench import bootstrap, interventions, probes
from workbench.controls import Heads
from workbench.errors import BadInput
from workbench.heads import Head, HeadScores, ModelIdentity
from workbench.masked_recall import exact_recall
from workbench.models import Model
from workbench.observation import observe
from workbench.probes.retrieval import score_block
from workbench.tasks.needle import Assembler, Sample, answer_ends, blocks
from workbench.views.masking import wilson
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.sinks.causal import OPS, SINKS
from workbench_analyses.sinks.found import Parked

LENGTH, DEPTHS, ROUNDS = 256, (0.0, 50.0, 100.0), 3
EDITED = 4
"""Needles that are asked for again with each edit."""
LEAST = 5
"""Answered samples below which no retrieval score is said."""
ANSWERS = 0.5
"""Exact recall below which nothing can be said of its loss."""
LISTED = 0.1
"""A retrieval head scores at least this."""


class Recalled(NamedTuple):
    """Exact recall of n needles with its 95 % Wilson interval."""

    share: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, eq=False)
class Against:
    """retrieval: copy scores of all heads. asked, idle: mass on the head's sink with the needle and without it.

    recall: whether each of the first EDITED needles is recalled exactly with the head's sink edited, by head, in the
    order of `causal.OPS`; NaN where its token is not in the prompt. base: share of all, without an edit. n: samples.
    """

    retrieval: HeadScores
    asked: Float[np.ndarray, "samples layers heads"]
    idle: Float[np.ndarray, "samples layers heads"]
    recall: Mapping[Head, Float[np.ndarray, "ops samples"]]
    base: float
    n: int

    def retrieval_heads(self) -> tuple[Head, ...]:
        """Heads that copy, best first."""
        return tuple(self.retrieval.at_least(LISTED))

    def unedited(self) -> Recalled:
        """Of all samples, without an edit."""
        return Recalled(self.base, *wilson(self.base, self.n), self.n)

    def recalled(self, head: Head, op: str) -> Recalled | None:
        """With a head's sink edited; None: it was not asked, or its token is in no prompt."""
        right = self.recall[head][OPS.index(op)] if head in self.recall else np.zeros(0)
        right = right[~np.isnan(right)]
        if not len(right):
            return None
        share = float(right.mean())
        return Recalled(share, *wilson(share, len(right)), len(right))

    def parking(self, head: Head) -> tuple[float, float, tuple[float, float, float]]:
        """Mass on the sink with the needle, without it, and the difference with its 95 % bootstrap interval.

        Over the samples that hold the sink's token both times; NaN without one.
        """
        asked, idle = self.asked[:, head.layer, head.head], self.idle[:, head.layer, head.head]
        known = ~np.isnan(asked + idle)
        asked, idle = asked[known], idle[known]
        if not len(asked):
            nan = float("nan")
            return nan, nan, (nan, nan, nan)
        low, high = bootstrap.percentile_interval((idle - asked)[:, None], None, 0.95, 1000, 0)
        change = (float((idle - asked).mean()), float(low[0]), float(high[0]))
        return float(asked.mean()), float(idle.mean()), change


@torch.no_grad()
def against_retrieval(
    config: ScanSinks,
    model: Model,
    identity: ModelIdentity,
    assembler: Assembler,
    parked: Sequence[Parked],
    checked: Sequence[Parked],
) -> Against | str:
    """The comparison, or why there is none: needles that do not fit, or a model that does not answer them."""
    try:
        units = list(blocks(assembler, [min(LENGTH, model.context - 16)], DEPTHS, ROUNDS, config.seed + 30_000))
    except BadInput as error:
        return f"no comparison with retrieval: {str(error).partition(':')[0]}"
    stops = answer_ends(model.tokenizer, model.stop_tokens)
    scored = [(x, s) for unit in units for x, s in zip(unit.samples, score_block(model, unit, stops), strict=True)]
    answered = [(x, s) for x, s in scored if s.accepted]
    if len(answered) < LEAST:
        return f"no comparison with retrieval: {len(answered)} of {len(scored)} needles answered"
    scores = HeadScores.from_samples(
        np.stack([s.distinct for _, s in answered]), "retrieval/distinct", model=identity, kv_heads=model.n_kv_heads,
        parameters={"length": LENGTH, "rounds": ROUNDS}, groups=tuple(x.needle for x, _ in answered),
    )  # fmt: skip
    samples = [x for x, _ in answered]
    own = {p.head: p.token for p in parked if not p.first}
    asked = np.stack([_mass_on_sink(model, list(x.tokens), own) for x in samples])
    idle = np.stack([_mass_on_sink(model, _without(x), own) for x in samples])
    base = float(exact_recall(model, samples, [()], lambda heads: interventions.Intervention(), config.batch).mean())
    recall = _recall(config, model, samples[:EDITED], checked) if base >= ANSWERS else {}
    return Against(scores, asked, idle, recall, base, len(samples))


def _without(sample: Sample) -> list[int]:
    start, end = sample.spans["statement"]
    return [*sample.tokens[:start], *sample.tokens[end:]]


def _mass_on_sink(model: Model, ids: list[int], own: Mapping[Head, int]) -> Float[np.ndarray, "layers heads"]:
    """Weight that the last row gives the first token; heads of `own`: the first occurrence of their token, or NaN."""
    places = {token: ids.index(token) for token in {*own.values()} if token in ids}
    spans = [(0, 1), *((at, at + 1) for at in places.values())]
    tokens = torch.tensor([ids], device=model.device)
    mass = observe(model, tokens, [probes.mass(spans, rows=(-1,))])["mass"][:, 0, :, 0].double().cpu().numpy()
    out = mass[..., 0].copy()
    order = list(places)
    for head, token in own.items():
        out[head] = mass[(*head, 1 + order.index(token))] if token in places else np.nan
    return out


def _recall(
    config: ScanSinks, model: Model, samples: Sequence[Sample], checked: Sequence[Parked]
) -> dict[Head, Float[np.ndarray, "ops samples"]]:
    """Whether each sample is recalled with each head's sink edited in each way; NaN where its token is not in it."""
    got = np.full((len(checked), len(OPS), len(samples)), np.nan)
    for j, sample in enumerate(samples):
        ids = list(sample.tokens)
        keys = {p.head: 0 if p.first else ids.index(p.token) for p in checked if p.first or p.token in ids}
        lists: list[Heads] = [(head,) for head in keys]
        rows = [i for i, p in enumerate(checked) if p.head in keys]
        for i, op in enumerate(OPS):
            edit = partial(_edit, config, op, keys)
            got[rows, i, j] = exact_recall(model, [sample], lists, edit, config.batch)[:, 0]
    return {p.head: got[i] for i, p in enumerate(checked)}


def _edit(config: ScanSinks, op: str, keys: Mapping[Head, int], heads: Heads) -> interventions.Edit:
    key = keys[Head(*heads[0])]
    if op == OPS[0]:
        return interventions.suppress(heads, (key,), gain=0.0)
    if op == OPS[1]:
        return interventions.amplify(heads, (key,), gain=0.0)
    return interventions.window(heads, SINKS[OPS.index(op) - 2], config.recent)
