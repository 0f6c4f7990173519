"""Greedy decoding of many prompts in one left-padded batch, and what every head looks at in each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.budget import in_parts
from workbench.footprint import cache_bytes, forward_bytes
from workbench.masks import CompactMask
from workbench.probes.caches import can_pad, keep_rows, merge_caches
from workbench.probes.near_ties import TIE
from workbench.tasks.needle import Sample

MOST_STEPS = 50
SPANS = ("answer", "statement")
NEXT = 7
"""Keys behind the largest that are looked at: a copy among them that is near may be chosen instead."""


@dataclass(frozen=True)
class Looks:
    """Where heads look while they produce tokens: the key of the largest weight, and the weight on each of SPANS.

    others: the keys of the next weights, `NEXT` of them. near: which of those are less than TIE below. top: the largest
    weight. Axis `l` runs over `layers`, those that have attention. On the model's device: moving each step would make it
    wait.
    """

    layers: tuple[int, ...]
    keys: Int[Tensor, "l b h steps"]
    others: Int[Tensor, "l b h steps next"]
    near: Bool[Tensor, "l b h steps next"]
    top: Float[Tensor, "l b h steps"]
    mass: Float[Tensor, "l b h steps spans"]

    def row(self, i: int, steps: int | None = None) -> Looks:
        """The first steps of one row of the batch."""
        rows = slice(i, i + 1)
        keys, others, near, top, mass = (
            x[:, rows, :, :steps] for x in (self.keys, self.others, self.near, self.top, self.mass)
        )
        return Looks(self.layers, keys, others, near, top, mass)

    def last(self, steps: int, spans: int) -> Looks:
        """The last steps, and the first spans."""
        keys, top = self.keys[..., -steps:], self.top[..., -steps:]
        others, near = self.others[..., -steps:, :], self.near[..., -steps:, :]
        return Looks(self.layers, keys, others, near, top, self.mass[..., -steps:, :spans])


@dataclass
class Branch:
    """A response in the making: the tokens so far, the looks that go with them, and where to go on from."""

    sample: Sample
    most: int = MOST_STEPS
    response: list[int] = field(default_factory=list)
    looks: list[Looks] = field(default_factory=list)
    cache: Any = None  # holds all tokens but the last, maybe more; None: start at the prompt's first token
    size: float = 0.0  # bytes that it takes in a batch
    decoded: bool = False
    ended: bool = False  # by a stop token, as a branch of a batch
    near: int = 0  # tokens that were decided by less than TIE

    @property
    def text(self) -> list[int]:
        """Prompt and response."""
        return [*self.sample.tokens, *self.response]

    def ends(self, token: int, stops: set[int]) -> bool:
        """Whether a token ends the response: a stop token, unless it is the answer's own, said word for word so far."""
        said, answer = len(self.response), self.sample.answer
        return token in stops and answer[: said + 1] != (*self.response, token)


def steps_allowed(model: Any, sample: Sample) -> int:
    """Tokens that a response may have: the context ends where learned positions do."""
    return max(1, min(MOST_STEPS, model.context - len(sample.tokens) + 1))


class Ask:
    """What a forward is asked of all its layers: the looks in the rows of the query axis that produce tokens.

    A sliding layer with a cache holds its last keys only and counts from the first that it holds; here all keys count
    from the text's first token, `pads` columns in.
    """

    def __init__(self, rows: Int[Tensor, "b r"], spans: Int[Tensor, "b s 2"], pads: Int[Tensor, " b"]) -> None:
        self.rows, self.pads, self.spans = rows, pads, spans + pads[:, None, None]
        self.dropped: dict[int, int] = {}

    def __call__(self, layer: int, mask: CompactMask) -> Reductions:
        """The reductions of one layer."""
        self.dropped[layer] = mask.kv_offset
        spans = self.spans - mask.kv_offset if mask.kv_offset else self.spans
        return Reductions(rows=self.rows, top_k=1 + NEXT, spans=spans)

    def looks(self, found: dict[int, Statistics]) -> Looks:
        """What the layers answered."""
        keys = torch.stack([s.top_indices for s in found.values() if s.top_indices is not None])
        keys = keys.long() - self.pads[:, None, None, None]
        if any(self.dropped.values()):
            keys += torch.tensor([self.dropped[i] for i in found], device=keys.device)[:, None, None, None, None]
        weights = torch.stack([s.top_values for s in found.values() if s.top_values is not None])
        mass = torch.stack([s.mass for s in found.values() if s.mass is not None])
        near = weights[..., :1] - weights[..., 1:] < TIE  # of a lone key there is no second one
        near &= keys[..., :1] != keys[..., 1:]
        return Looks(tuple(found), keys[..., 0], keys[..., 1:], near, weights[..., 0], mass)


def spans_of(samples: Sequence[Sample], device: torch.device) -> Int[Tensor, "b s 2"]:
    """Where the needles stand in their prompts."""
    return torch.tensor([[s.spans[name] for name in SPANS] for s in samples], device=device)


@torch.no_grad()
def decode(model: Any, branches: Sequence[Branch], stops: set[int]) -> None:
    """Finish all responses, each up to a stop token or its most tokens, in as few batches as their lengths permit.

    Either all of them have a cache, which is used up, or none has.
    """
    groups: dict[int, list[Branch]] = {}
    padded = can_pad(model)
    for branch in branches:
        groups.setdefault(0 if padded else len(branch.text), []).append(branch)
    for group in groups.values():
        each = max(_bytes(model, branch) for branch in group)
        in_parts(model, "decoding", len(group), each, lambda rows, g=group: _finish(model, g[rows], stops))


def _bytes(model: Any, branch: Branch) -> int:
    """What a branch takes in a batch: all its keys and values, and the forward that begins it."""
    return cache_bytes(model, len(branch.text) + branch.most) + forward_bytes(model, len(branch.text))


def _finish(model: Any, branches: Sequence[Branch], stops: set[int]) -> None:
    """One batch. A branch that was in one before, where memory ran out, goes on from its tokens: its cache is used up."""
    left = [b for b in branches if len(b.response) < b.most and not b.ended]
    if any(b.decoded or b.cache is None for b in left):
        for branch in left:
            branch.cache = None
    batch = _Batch(model, left) if left else None
    while batch is not None and batch.live:
        batch.step(stops)


class _Batch:
    """The responses that are not finished, as rows; a row leaves when it is."""

    def __init__(self, model: Any, branches: list[Branch]) -> None:
        texts, device = [b.text for b in branches], model.device
        for branch in branches:
            branch.decoded = True
        width, self.model, self.live = max(map(len, texts)), model, branches
        self.cache: Any = None
        self.pads = torch.tensor([width - len(t) for t in texts], device=device)
        self.starts = [width - len(t) + len(b.sample.tokens) - 1 for t, b in zip(texts, branches, strict=True)]
        self.spans = spans_of([b.sample for b in branches], device)
        tokens = torch.tensor([[0] * (width - len(t)) + t for t in texts], device=device)
        self.mask = None
        if bool(self.pads.any()):
            self.mask = torch.arange(width, device=device) >= self.pads[:, None]
        if branches[0].cache is not None:
            lengths = [len(t) - 1 for t in texts]
            self.cache = merge_caches(model, [b.cache for b in branches], lengths, 1 + max(b.most for b in branches))
        self.feed = tokens if self.cache is None else tokens[:, -1:]
        for branch in branches:
            branch.cache = None

    def step(self, stops: set[int]) -> None:
        """One more token in every row."""
        last = self.feed.shape[1] - 1
        rows = torch.full((len(self.live), 1), last, device=self.feed.device)
        ask = Ask(rows, self.spans, self.pads)
        out = self.model.forward(
            self.feed, self.mask, reductions=ask, cache=self.cache, use_cache=True,
            keep=slice(last, last + 1), decode_from=self.starts,
        )  # fmt: skip
        top = out.logits[:, -1].float().topk(2)
        self.cache, new = out.cache, out.logits[:, -1].argmax(-1)
        looks, stay, near = ask.looks(out.statistics), [], (top.values[:, 0] - top.values[:, 1] < TIE).tolist()
        for i, (branch, token) in enumerate(zip(self.live, new.tolist(), strict=True)):
            branch.near += near[i]
            branch.ended = branch.ends(token, stops)
            if branch.ended:
                continue
            branch.response.append(token)
            branch.looks.append(looks.row(i))
            if len(branch.response) < branch.most:
                stay.append(i)
        if len(stay) < len(self.live):
            new = self._keep(stay, new)
        self.feed = new[:, None]
        if self.mask is not None:
            self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=True)

    def _keep(self, stay: list[int], new: Tensor) -> Tensor:
        """Go on with some rows: the others would cost as much as before, and run out of the context."""
        index = torch.tensor(stay, dtype=torch.long, device=new.device)
        self.live, self.starts = [self.live[i] for i in stay], [self.starts[i] for i in stay]
        self.pads, self.spans = self.pads[index], self.spans[index]
        if self.live:
            keep_rows(self.cache, index)
            self.mask = None if self.mask is None else self.mask[index]
        return new[index]
