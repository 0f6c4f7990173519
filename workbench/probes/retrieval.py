"""Retrieval scores: does a head look at the very token that is being produced? (Wu et al. 2024, arXiv 2404.15574)

At the step that produces token w, a head copies if the key of its largest attention lies in the needle's answer span
and holds w. `distinct` counts needle positions copied, `raw` counts steps; both per needle token.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.tasks.needle import Sample

MARGIN = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Smallest top-2 margin, in units of max|logit|, at which one forward stands for token-by-token decoding."""
ACCEPT = 0.5
MOST_STEPS = 50


@dataclass
class SampleScore:
    """What one sample gave; arrays are [layers, heads], NaN in layers without attention statistics."""

    distinct: Float[np.ndarray, "layers heads"]
    raw: Float[np.ndarray, "layers heads"]
    mass: Float[np.ndarray, "layers heads"]
    statement_mass: Float[np.ndarray, "layers heads"]
    accepted: bool
    recall: float
    exact: bool
    decoded: bool  # token by token, because the answer was not what one forward says
    response: list[int] = field(default_factory=list)


@dataclass
class _Tally:
    """Copies and masses, summed over steps."""

    sample: Sample
    layers: int
    heads: int

    def __post_init__(self) -> None:
        shape = (self.layers, self.heads)
        self.positions = np.zeros((*shape, len(self.sample.answer)), dtype=bool)
        self.steps, self.seen = np.zeros(shape), 0
        self.mass, self.statement = np.zeros(shape), np.zeros(shape)
        self.known = np.zeros(self.layers, dtype=bool)

    def add(self, found: dict[int, Statistics], produced: list[int]) -> None:
        """Count the rows of one forward; row i produced token produced[i]."""
        start, end = self.sample.spans["answer"]
        tokens = torch.tensor(self.sample.tokens)
        for layer, stats in found.items():
            assert stats.top_indices is not None and stats.mass is not None
            key = stats.top_indices[0, :, :, 0].cpu()  # [heads, rows]
            inside = (key >= start) & (key < end)
            copied = inside & (tokens[key.clamp_max(len(tokens) - 1)] == torch.tensor(produced)[None])
            self.steps[layer] += copied.sum(-1).numpy()
            for head, row in copied.nonzero().tolist():
                self.positions[layer, head, int(key[head, row]) - start] = True
            mass = stats.mass[0].sum(1).double().cpu().numpy()  # [heads, spans]
            self.mass[layer] += mass[:, 0]
            self.statement[layer] += mass[:, 1]
            self.known[layer] = True
        self.seen += len(produced)

    def result(self, response: list[int], tokenizer: Any, decoded: bool) -> SampleScore:
        n = len(self.sample.answer)
        recall = rouge_recall(tokenizer.decode(self.sample.answer), tokenizer.decode(response))
        parts = (self.positions.sum(-1) / n, self.steps / n, self.mass / self.seen, self.statement / self.seen)
        distinct, raw, mass, statement = (np.where(self.known[:, None], x, np.nan) for x in parts)
        exact = tuple(response[:n]) == self.sample.answer
        return SampleScore(distinct, raw, mass, statement, recall > ACCEPT, recall, exact, decoded, response)


def rouge_recall(answer: str, response: str) -> float:
    """ROUGE-1 recall of the answer's words in the response, case-folded, not stemmed."""
    want, have = Counter(answer.lower().split()), Counter(response.lower().split())
    return sum(min(n, have[w]) for w, n in want.items()) / max(1, sum(want.values()))


@torch.no_grad()
def score_sample(model: Any, sample: Sample, stops: set[int], cache: Any = None) -> SampleScore:
    """Score one sample: one forward where the expected answer is what the model says, decoding where not.

    cache: keys and values of the first tokens of the prompt; the call extends it.
    """
    past = cache.get_seq_length() if cache is not None else 0
    prompt, n = len(sample.tokens), len(sample.answer)
    tokens = torch.tensor([[*sample.tokens, *sample.answer]], device=model.device)[:, past:]
    spans = torch.tensor([[sample.spans["answer"], sample.spans["statement"]]])
    first = prompt - 1 - past

    def want(rows: list[int]) -> Any:
        asked = Reductions(rows=torch.tensor([rows]), top_k=1, spans=spans)
        return lambda layer, mask: asked

    out = model.forward(
        tokens, reductions=want(list(range(first, first + n))), cache=cache, use_cache=True,
        keep=slice(first, first + n + 1), decode_from=[prompt - 1],
    )  # fmt: skip
    said, sure = out.logits[0].argmax(-1).tolist(), _sure(out.logits[0])
    tally = _Tally(sample, model.n_layers, model.n_heads)
    if said[:n] == list(sample.answer) and said[n] in stops and sure:
        tally.add(out.statistics, said[:n])
        return tally.result(said[:n], model.tokenizer, decoded=False)
    branch = None if cache is None else copy_cache(model, cache, past)
    return _decode(model, sample, stops, branch, tally, want)


def _decode(model: Any, sample: Sample, stops: set[int], branch: Any, tally: _Tally, want: Any) -> SampleScore:
    """Plain greedy decoding from the prefix's cache, with statistics of each step."""
    past = branch.get_seq_length() if branch is not None else 0
    prompt, response = len(sample.tokens), []
    tokens = torch.tensor([sample.tokens[past:]], device=model.device)
    while len(response) < MOST_STEPS:
        row = tokens.shape[1] - 1
        out = model.forward(
            tokens, reductions=want([row]), cache=branch, use_cache=True, keep=slice(row, row + 1),
            decode_from=[prompt - 1],
        )  # fmt: skip
        branch, token = out.cache, int(out.logits[0, -1].argmax())
        if token in stops:
            break
        tally.add(out.statistics, [token])
        response.append(token)
        tokens = torch.tensor([[token]], device=model.device)
    tally.seen = max(1, tally.seen)
    return tally.result(response, model.tokenizer, decoded=True)


def _sure(logits: Tensor) -> bool:
    top = logits.float().topk(2, -1).values
    least = MARGIN.get(logits.dtype, 1e-4) * logits.float().abs().max()
    return bool(((top[:, 0] - top[:, 1]) > least).all())


def can_roll_back(model: Any) -> bool:
    """Whether a cache can be cut at any position: no sliding windows, no recurrent layers."""
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    windowed = getattr(model.config, "sliding_window", None) and getattr(model.config, "use_sliding_window", True)
    return kinds == {"full_attention"} and not windowed and len(model.seam.layers) == model.n_layers


def copy_cache(model: Any, cache: Any, length: int) -> Any:
    """A new cache that holds the first `length` positions of another."""
    from transformers import DynamicCache

    out = DynamicCache(config=model.config)
    for i, layer in enumerate(cache.layers):
        out.update(layer.keys[:, :, :length], layer.values[:, :, :length], i)
    return out


@torch.no_grad()
def score_block(model: Any, block: Any, stops: set[int]) -> list[SampleScore]:
    """All samples of a block; the haystack is computed once where the cache can be rolled back."""
    if not can_roll_back(model):
        return [score_sample(model, s, stops) for s in block.samples]
    haystack = torch.tensor([block.haystack], device=model.device)
    whole = model.forward(haystack, use_cache=True, keep=slice(len(block.haystack) - 1, len(block.haystack))).cache
    caches = (copy_cache(model, whole, s.prefix) if s.prefix else None for s in block.samples)
    return [score_sample(model, s, stops, cache) for s, cache in zip(block.samples, caches, strict=True)]
