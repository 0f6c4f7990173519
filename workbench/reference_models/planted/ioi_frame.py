"""The frame of the planted circuit models: a GPT-2 or a Llama of zeros, and the blocks of its residual stream.

Blocks hold one-hots. Two ballast dimensions are so large that every norm divides by nearly the same number, which its
weight undoes; they also serve as the constant that biases are made of. One dimension takes the negative of the sum of
all others, so that LayerNorm has no mean to take away. Places are 16 cosines whose sum over frequencies is 1 at the
place sought and 0 at all others: in GPT-2 position embeddings hold them, in Llama the first rotary planes turn so.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, sin
from typing import TYPE_CHECKING, Any

from workbench.reference_models.planted.ioi_blank import BALLAST, PLANES, RATES, blank_gpt2, blank_llama
from workbench.reference_models.planted.ioi_words import CONTEXT, NAME_COUNT, OBJECT_COUNT, vocabulary
from workbench.reference_models.planted.wiring import Head

if TYPE_CHECKING:
    from torch import Tensor

COLOUR_COUNT = 8
LOUD = 4.0
"""Size of the one-hots that heads of a circuit read: so large that random heads, which write no more than movers do,
do not disturb them. Those in the output block are of size 1."""
NATS = 10.0
"""What a one-hot in the output block adds to the logit of its token."""
HEAD_DIM = {"gpt2": 48, "llama": 64}
JUNK = 16
"""Dimensions that only the MLPs write."""


def blocks() -> Mapping[str, slice]:
    """Where each block stands. token, place (and how far along): what a position holds by itself; back: the name, colour
    or `the` before it; twice, shunned: names; asked: objects; out: names and colours to say."""
    sizes = {
        "token": len(vocabulary()), "place": 2 * PLANES, "along": 1, "back": NAME_COUNT + COLOUR_COUNT + 1,
        "twice": NAME_COUNT, "shunned": NAME_COUNT, "asked": OBJECT_COUNT, "out": NAME_COUNT + COLOUR_COUNT,
        "junk": JUNK, "even": 1, "ballast": 2,
    }  # fmt: skip
    out, start = {}, 0
    for name, size in sizes.items():
        out[name] = slice(start, start + size)
        start += size
    return out


class CircuitFrame:
    """The model under construction. kv_heads: heads of a group share their keys and values; None: each has its own."""

    def __init__(self, architecture: str, layers: int, heads: int, kv_heads: int | None, beta: float) -> None:
        self.gpt2, self.layers, self.heads = architecture == "gpt2", layers, heads
        self.kv_heads = kv_heads or heads
        self.dim, self.at = HEAD_DIM[architecture], blocks()
        needed = self.at["ballast"].stop
        self.width = heads * max(HEAD_DIM["gpt2"], -(-needed // heads))
        self.unit = beta * self.dim**0.5
        if self.gpt2:
            self.model = blank_gpt2(layers, heads, self.width)
        else:
            self.model = blank_llama(layers, heads, self.kv_heads, self.dim, self.width)
        self.sizes = [LOUD if i < self.at["out"].start else 1.0 for i in range(self.width)]
        self.even, self.constant_dim = self.at["even"].start, self.at["ballast"].start
        embedding, self.unembedding = _ends(self.model, self.gpt2)
        _embed(embedding, self.at)
        if self.gpt2:
            _embed_places(self.model.transformer.wpe.weight.data, self.at)

    def head(self, place: tuple[int, int]) -> Head:
        """The views of a head: q, k, v [head_dim, width], o [width, head_dim]."""
        layer, head = place
        rows = slice(head * self.dim, (head + 1) * self.dim)
        if self.gpt2:
            part = self.model.transformer.h[layer].attn
            q, k, v = (x[:, rows].T for x in part.c_attn.weight.data.chunk(3, dim=1))
            return Head(q, k, v, part.c_proj.weight.data[rows].T)
        part, group = self.model.model.layers[layer].self_attn, self.group(head)
        shared = slice(group * self.dim, (group + 1) * self.dim)
        q, k, v, o = (getattr(part, f"{x}_proj").weight.data for x in "qkvo")
        return Head(q[rows], k[shared], v[shared], o[:, rows])

    def group(self, head: int) -> int:
        """The group of heads that share keys and values with a head."""
        return head // (self.heads // self.kv_heads)

    def mlp(self, layer: int) -> tuple[list[Tensor], Tensor]:
        """Weights of an MLP: those that read, [inner, width], and the one that writes, [width, inner]."""
        if self.gpt2:
            part = self.model.transformer.h[layer].mlp
            return [part.c_fc.weight.data.T], part.c_proj.weight.data.T
        part = self.model.model.layers[layer].mlp
        return [part.gate_proj.weight.data, part.up_proj.weight.data], part.down_proj.weight.data

    def slots(self, placed: bool = False) -> list[int]:
        """Entries of queries and keys that hold content; placed: beside those that tell places."""
        if self.gpt2:
            return list(range(2 * PLANES + 1 if placed else 0, self.dim))
        half = self.dim // 2
        return [d for d in range(self.dim) if d % half > PLANES]

    def constant(self, weight: Tensor, row: int, value: float) -> None:
        """Give an entry the same value at every token."""
        weight[row, self.constant_dim] += value / BALLAST

    def shows_place(self, head: Head) -> None:
        """Keys tell where they stand, and how far along that is."""
        for i in range(PLANES):
            if self.gpt2:
                for j in (2 * i, 2 * i + 1):
                    head.k[j, self.at["place"].start + j] = 1 / LOUD
            else:
                self.constant(head.k, i, PLANES**-0.5)
        if self.gpt2:
            head.k[2 * PLANES, self.at["along"].start] = 1 / LOUD
        else:
            self.constant(head.k, PLANES, 1.0)

    def seeks_offset(self, head: Head, offset: int, times: float) -> None:
        """Add `times` β to the score of the key so many tokens before."""
        for i, rate in enumerate(RATES):
            c, s, u = cos(offset * rate), sin(offset * rate), times * self.unit
            if self.gpt2:
                x = self.at["place"].start + 2 * i
                for row, column, value in ((0, 0, c), (0, 1, s), (1, 0, -s), (1, 1, c)):
                    head.q[2 * i + row, x + column] += u * value / LOUD
            else:
                self.constant(head.q, i, u * c * PLANES**-0.5)
                self.constant(head.q, i + self.dim // 2, -u * s * PLANES**-0.5)

    def prefers_late(self, head: Head, token: int, times: float) -> None:
        """At a token, add up to `times` β to scores of late keys, none to those a whole context before."""
        slot = 2 * PLANES if self.gpt2 else PLANES
        head.q[slot, self.at["token"].start + token] += self.unit / LOUD * (times if self.gpt2 else times / 2)

    def evened(self) -> None:
        """Let every write have the sum zero, so that no LayerNorm finds a mean."""
        writers = [self.mlp(layer)[1] for layer in range(self.layers)]
        writers += [self.head((i, j)).o for i in range(self.layers) for j in range(self.heads)]
        for o in writers:
            o[self.even] = 0.0
            o[self.even] = -o.sum(0)


def _embed(embedding: Tensor, at: Mapping[str, slice]) -> None:
    for i in range(len(vocabulary())):
        embedding[i, at["token"].start + i] = LOUD
    embedding[:, at["even"].start] = -LOUD
    embedding[:, at["ballast"].start], embedding[:, at["ballast"].start + 1] = BALLAST, -BALLAST


def _embed_places(embedding: Tensor, at: Mapping[str, slice]) -> None:
    import torch

    places = torch.arange(CONTEXT, dtype=torch.float64)
    for i, rate in enumerate(RATES):
        embedding[:, at["place"].start + 2 * i] = (places * rate).cos() * LOUD * PLANES**-0.5
        embedding[:, at["place"].start + 2 * i + 1] = (places * rate).sin() * LOUD * PLANES**-0.5
    embedding[:, at["along"].start] = LOUD * places / CONTEXT
    embedding[:, at["even"].start] = -embedding.sum(-1)


def _ends(model: Any, gpt2: bool) -> tuple[Tensor, Tensor]:
    inner = model.transformer.wte if gpt2 else model.model.embed_tokens
    return inner.weight.data, model.lm_head.weight.data
