"""Retrieval scores: does a head look at the very token that is being produced? (Wu et al. 2024, arXiv 2404.15574)

At the step that produces token w, a head copies if the key of its largest attention lies in the needle's answer span
and holds w. `distinct` counts needle positions copied, `raw` counts steps; both per needle token.

One forward over prompt and expected answer settles every step up to the first at which the model says something else,
or says it with a margin too small to be sure of. From there it is decoded, all such samples of a block together. The
question's own rows are read in the same forward (`query_focus`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.budget import budget_of, in_parts, rows_at_once
from workbench.footprint import cache_bytes, forward_bytes
from workbench.probes.caches import bytes_per_token, can_roll_back, copy_cache
from workbench.probes.decoding import SPANS, Ask, Branch, Looks, decode, spans_of, steps_allowed
from workbench.probes.near_ties import TIE, NearTies
from workbench.probes.query_focus import asking_rows, document_tokens, focus, mean_over_rows, unasked
from workbench.probes.waiting import Waiting
from workbench.tasks.needle import Sample
from workbench.tasks.rouge import rouge_recall

MARGIN = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Smallest top-2 margin, in units of max|logit|, at which one forward stands for token-by-token decoding."""
ACCEPT = 0.5
Focus = tuple[tuple[int, ...], Float[np.ndarray, "l heads"]] | None
"""Layers with attention and their heads' `query_focus`; None where a sample says nothing of its question."""


@dataclass
class SampleScore:
    """What one sample gave; arrays are [layers, heads], NaN in layers without attention statistics.

    All but qrhead are NaN where the model said nothing: no step, no score.
    """

    distinct: Float[np.ndarray, "layers heads"]
    raw: Float[np.ndarray, "layers heads"]
    mass: Float[np.ndarray, "layers heads"]
    statement_mass: Float[np.ndarray, "layers heads"]
    qrhead: Float[np.ndarray, "layers heads"]
    accepted: bool
    recall: float
    exact: bool
    decoded: bool  # at least its end token by token, because one forward did not settle it
    response: list[int] = field(default_factory=list)
    ties: NearTies = field(default_factory=NearTies)


def score_sample(model: Any, sample: Sample, stops: set[int]) -> SampleScore:
    """Score one sample: one forward where the expected answer is what the model says, decoding where not."""
    return score_samples(model, [sample], stops)[0]


@torch.no_grad()
def score_block(model: Any, block: Any, stops: set[int], budget: float | None = None) -> list[SampleScore]:
    """All samples of a block; the haystack is computed once where the cache can be rolled back.

    Raises TooLarge where a stated budget of memory does not hold one sample, RanOut where the machine does not.
    """
    longest = max((len(s.tokens) + len(s.answer) for s in block.samples), default=1)
    each = forward_bytes(model, longest) + 3 * cache_bytes(model, longest)
    if not can_roll_back(model):
        rows_at_once(model, "needles", each)
        return score_samples(model, block.samples, stops, budget=budget)
    haystack, end = torch.tensor([block.haystack], device=model.device), len(block.haystack)
    (out,) = in_parts(
        model, "needles", 1, each, lambda _: model.forward(haystack, use_cache=True, keep=slice(end - 1, end))
    )

    def start(sample: Sample) -> Any:
        return copy_cache(model, out.cache, sample.prefix) if sample.prefix else None

    return score_samples(model, block.samples, stops, start, budget)


@torch.no_grad()
def score_samples(
    model: Any,
    samples: Sequence[Sample],
    stops: set[int],
    start: Callable[[Sample], Any] = lambda sample: None,
    budget: float | None = None,
) -> list[SampleScore]:
    """Score samples one forward each, and decode together those that it does not settle.

    start: makes the keys and values of the first tokens of a prompt, which are used up; None: there are none. budget:
    bytes of keys and values that may wait to be decoded; beyond it the batch is split. None: half of the model's
    (`workbench.budget`). Raises RanOut where memory runs out though no answer waits.
    """
    branches, gained = [], []
    waiting = Waiting(model, stops, budget_of(model) // 2 if budget is None else budget)
    for sample in samples:
        branch, settled, more = waiting.beside(lambda s=sample: _one_forward(model, s, stops, start(s)))
        branches.append(branch)
        gained.append(more)
        if not settled:
            waiting.add(branch)
    waiting.decode()
    return [_result(model, b, more) for b, more in zip(branches, gained, strict=True)]


def decoding_agreement(model: Any, samples: Sequence[Sample], stops: set[int]) -> tuple[int, int]:
    """Of some samples, how many have the response and the scores of plain decoding; and how many they are.

    Plain: each prompt alone from its first token on, nothing shared, one token at a time. In float32 it is all of them
    (a tie apart); in bfloat16 and float16 a report should say the figure.
    """
    agreeing = 0
    for sample, ours in zip(samples, score_samples(model, samples, stops), strict=True):
        branch = Branch(sample, steps_allowed(model, sample))
        decode(model, [branch], stops)
        plain = _result(model, branch)
        pairs = ((ours.distinct, plain.distinct), (ours.raw, plain.raw))
        agreeing += ours.response == plain.response and all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    return agreeing, len(samples)


def _one_forward(model: Any, sample: Sample, stops: set[int], cache: Any) -> tuple[Branch, bool, Focus]:
    """Prompt and expected answer at once: the response as far as that settles it, whether it does to the end, focus."""
    past = cache.get_seq_length() if cache is not None else 0
    prompt, n, asking = len(sample.tokens), len(sample.answer), asking_rows(sample)
    tokens = torch.tensor([[*sample.tokens, *sample.answer]], device=model.device)[:, past:]
    rows = torch.tensor([[*asking, *range(prompt - 1, prompt + n)]], device=model.device) - past
    spans = spans_of([sample], model.device)
    if asking:
        spans = torch.cat([spans, document_tokens(sample, model.device)], 1)
    ask = Ask(rows, spans, torch.zeros(1, dtype=torch.long, device=model.device))
    keep = slice(min([prompt - 1, *asking]) - past, prompt + n - past)
    out = model.forward(tokens, reductions=ask, cache=cache, use_cache=True, keep=keep, decode_from=[prompt - 1])
    found = ask.looks(out.statistics)
    branch, settled = _settled(model, sample, stops, found.last(n + 1, len(SPANS)), out.logits[0, -n - 1 :])
    more = None
    if asking:
        asked = mean_over_rows(found.mass[..., : len(asking), len(SPANS) :])
        more = found.layers, focus(asked, unasked(model, sample, out.cache))
    if not settled:
        branch.cache = out.cache if can_roll_back(model) else None
        branch.size = bytes_per_token(out.cache) * len(branch.text)
    return branch, settled, more


def _settled(
    model: Any, sample: Sample, stops: set[int], looks: Looks, logits: Float[Tensor, "steps vocabulary"]
) -> tuple[Branch, bool]:
    """The response as far as the logits after every prefix of the expected answer settle it, and whether to its end."""
    answer, n = torch.tensor(sample.answer, device=logits.device), len(sample.answer)
    said = logits.argmax(-1)
    ends = torch.tensor(sorted(stops), dtype=said.dtype, device=said.device)
    right = torch.cat([said[:n] == answer, torch.isin(said[n:], ends)])
    sure = torch.ones_like(right) & _sure(logits)
    agreed = int((right & sure).cumprod(0).sum())
    if agreed > n:  # the answer and a stop token
        return Branch(sample, n, list(sample.answer), [looks.row(0, n)]), True
    branch = Branch(sample, steps_allowed(model, sample), list(sample.answer[:agreed]))
    token, settled = int(said[agreed]), False
    if bool(sure[agreed]):  # something else, but surely: that token is taken, too
        settled = branch.ends(token, stops)
        branch.response += [] if settled else [token]
    del branch.response[branch.most :]
    branch.looks = [looks.row(0, len(branch.response))]
    return branch, settled or len(branch.response) == branch.most


def _sure(logits: Float[Tensor, "steps vocabulary"]) -> Bool[Tensor, " steps"]:
    """At which steps rounding cannot change the arg-max."""
    top = logits.float().topk(2, -1).values
    return top[:, 0] - top[:, 1] > MARGIN.get(logits.dtype, 1e-4) * logits.float().abs().max()


def _result(model: Any, branch: Branch, more: Focus = None) -> SampleScore:
    """Copies and masses of all steps, and the focus of the question."""
    sample, response, n = branch.sample, branch.response, len(branch.sample.answer)
    distinct, raw, mass, statement, qrhead = (np.full((model.n_layers, model.n_heads), np.nan) for _ in range(5))
    ties = NearTies(near_tokens=branch.near)
    if more is not None:
        qrhead[list(more[0])] = more[1]
    if response:
        keys = torch.cat([x.keys[:, 0] for x in branch.looks], -1).cpu().numpy()
        weights = torch.cat([x.mass[:, 0] for x in branch.looks], -2).double().cpu().numpy()
        (start, end), layers = sample.spans["answer"], list(branch.looks[-1].layers)
        copied, ties = _copies(sample, response, keys), _ties(sample, response, branch)
        positions = np.zeros((*keys.shape[:2], n), dtype=bool)
        for step in range(len(response)):
            positions |= copied[..., step, None] & (keys[..., step, None] == np.arange(start, end))
        distinct[layers], raw[layers] = positions.sum(-1) / n, copied.sum(-1) / n
        mass[layers], statement[layers] = np.moveaxis(weights.mean(2), -1, 0)
    answer, text = (model.tokenizer.decode(list(t)) for t in (sample.answer, response))
    recall, exact = rouge_recall(answer, text), tuple(response[:n]) == sample.answer
    return SampleScore(
        distinct, raw, mass, statement, qrhead, recall > ACCEPT, recall, exact, branch.decoded, response, ties
    )  # fmt: skip


def _copies(sample: Sample, response: list[int], keys: Int[np.ndarray, "l h steps"]) -> Bool[np.ndarray, "l h steps"]:
    """Whether a key lies in the answer and holds the very token that is produced."""
    start, end = sample.spans["answer"]
    tokens = np.array(sample.tokens)
    return (keys >= start) & (keys < end) & (tokens[np.minimum(keys, len(tokens) - 1)] == np.array(response))


def _ties(sample: Sample, response: list[int], branch: Branch) -> NearTies:
    """How close the choices of keys were.

    Where even the last of the next keys is near, a copy may be as near behind it: then it counts as at stake wherever
    the answer as a whole weighs as much as the largest key, less TIE.
    """
    keys, top = (torch.cat([getattr(x, name)[:, 0] for x in branch.looks], -1) for name in ("keys", "top"))
    others, near = (torch.cat([getattr(x, name)[:, 0] for x in branch.looks], -2) for name in ("others", "near"))
    answer = torch.cat([x.mass[:, 0, ..., 0] for x in branch.looks], -1)
    unseen = (near.all(-1) & (answer.double() - top.double() >= -TIE)).cpu().numpy()
    near, others = near.cpu().numpy(), others.cpu().numpy()
    copied = np.stack([_copies(sample, response, others[..., i]) for i in range(others.shape[-1])], -1)
    close = near[..., 0]
    stake = close & (_copies(sample, response, keys.cpu().numpy()) | (near & copied).any(-1) | unseen)
    return NearTies(close.size, int(close.sum()), int(stake.sum()), branch.near)
