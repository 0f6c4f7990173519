"""The sinks of one kind of texts: which keys, in which heads, and which heads park."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.heads import Head
from workbench.sinks import HELD
from workbench_analyses.sinks.passes import COLUMNS, Arrays, is_massive
from workbench_analyses.sinks.texts import Texts

USUAL = 0.5
"""A head parks if it does so in at least this share of the texts."""


class Sink(NamedTuple):
    """One sink of one head in one text; see `passes.COLUMNS`. token: its id. says: ‖v‖·α over the mean ‖z‖."""

    text: int
    head: Head
    key: int
    token: int
    received: float
    even: float
    held: float
    value_ratio: float
    key_ratio: float
    says: float
    phi: float


class Parked(NamedTuple):
    """A head that parks: on which token, whether that is the first one, how much it gives, in what share of texts."""

    head: Head
    token: int
    first: bool
    received: float
    rate: float


class TokenSinks(NamedTuple):
    """A token that is a sink somewhere: the (layer, head) pairs that it holds, where it stood, means over its sinks."""

    token: int
    first: bool
    pairs: int
    texts: int
    positions: tuple[int, int]
    received: float
    value_ratio: float
    key_ratio: float
    says: float
    phi: float


@dataclass(frozen=True, eq=False)
class Found:
    """All arrays have the texts' axis first, then [layers, heads]. n: texts; rate: first-token α at epsilon_tokens."""

    texts: Texts
    sinks: tuple[Sink, ...]
    first: Float[np.ndarray, "texts layers heads"]
    rate: Float[np.ndarray, "texts layers heads"]
    paper: Float[np.ndarray, "texts layers heads"]
    absolute: Float[np.ndarray, "texts layers heads"]
    learned: Float[np.ndarray, "texts layers heads"]
    massive: Arrays
    phi: Float[np.ndarray, "texts layers T"]

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads."""
        return self.first.shape[1:]  # pyright: ignore[reportReturnType]

    def flagged(self, hidden: bool | None = None) -> Float[np.ndarray, "texts layers heads"]:
        """Number of corrected sinks; hidden: only those that are not (are) the first token. NaN: no attention there."""
        out = np.where(np.isnan(self.first), np.nan, 0.0)
        for s in self.sinks:
            if hidden is None or hidden == (s.key > 0):
                out[s.text, s.head.layer, s.head.head] += 1
        return out

    def received(self) -> Float[np.ndarray, "texts layers heads"]:
        """What the strongest sink of each head receives; 0 where it has none."""
        out = np.where(np.isnan(self.first), np.nan, 0.0)
        for (text, head), sink in self.strongest.items():
            out[text, head.layer, head.head] = sink.received
        return out

    @cached_property
    def strongest(self) -> dict[tuple[int, Head], Sink]:
        """The sink that receives most, by (text, head)."""
        best: dict[tuple[int, Head], Sink] = {}
        for s in self.sinks:
            if (s.text, s.head) not in best or s.received > best[s.text, s.head].received:
                best[s.text, s.head] = s
        return best

    def parked(self, epsilon: float, usual: float = USUAL) -> tuple[Parked, ...]:
        """Heads with a corrected sink in the usual share of texts that receives more than epsilon, strongest first.

        What it receives is averaged over all texts; one without a sink counts as 0.
        """
        by_head: dict[Head, list[Sink]] = {}
        for (_, head), sink in self.strongest.items():
            by_head.setdefault(head, []).append(sink)
        n, out = len(self.first), []
        for head, sinks in by_head.items():
            mean = sum(s.received for s in sinks) / n
            if len(sinks) >= usual * n and mean > epsilon:
                (first, token), _ = Counter((s.key == 0, s.token) for s in sinks).most_common(1)[0]
                out.append(Parked(head, token, first, mean, len(sinks) / n))
        return tuple(sorted(out, key=lambda p: (-p.received, p.head)))

    def by_token(self) -> tuple[TokenSinks, ...]:
        """Sinks by token, the first one apart; those of most (layer, head) pairs first."""
        groups: dict[tuple[bool, int], list[Sink]] = {}
        for s in self.sinks:
            groups.setdefault((s.key == 0, s.token), []).append(s)
        out = []
        for (first, token), each in groups.items():
            keys = [s.key for s in each]
            pairs, texts = len({s.head for s in each}), len({s.text for s in each})
            means = (
                _mean(getattr(s, x) for s in each) for x in ("received", "value_ratio", "key_ratio", "says", "phi")
            )
            out.append(TokenSinks(token, first, pairs, texts, (min(keys), max(keys)), *means))
        return tuple(sorted(out, key=lambda t: (-t.pairs, -t.received)))

    def phi_tokens(self, tau: float) -> list[tuple[int, int, int, float]]:
        """Tokens with Φ > tau: id, texts and layers in which it is so, largest Φ; those of most texts first."""
        at: dict[int, list[tuple[int, int, float]]] = {}
        for text, layer, key in np.argwhere(self.phi > tau).tolist():
            token = int(self.texts.tokens[text, key])
            at.setdefault(token, []).append((text, layer, float(self.phi[text, layer, key])))
        rows = [(i, len({x[0] for x in v}), len({x[1] for x in v}), max(x[2] for x in v)) for i, v in at.items()]
        return sorted(rows, key=lambda r: (-r[1], -r[3]))

    def massive_layers(self, least: float, ratio: float) -> list[int]:
        """Layers after which a massive activation stands."""
        return np.flatnonzero(is_massive(self.massive, least, ratio).any((0, 2))).tolist()


def found(
    texts: Texts, first: Sequence[Arrays], second: Sequence[Arrays], rate: np.ndarray, starts: list[int]
) -> Found:
    """The batches put together; starts: index of the first text of each."""
    joined = {k: np.concatenate([p[k] for p in first]) for k in first[0] if k != "candidates"}
    sinks = tuple(
        _sink(row, held, phi, start, texts)
        for a, b, start in zip(first, second, starts, strict=True)
        for row, held, phi in zip(a["candidates"], b["held"], b["phi_at"], strict=True)
        if held >= HELD
    )
    massive = {k: joined[k] for k in ("values", "positions", "dims", "median")}
    maps = {k: joined[k] for k in ("first", "paper", "absolute", "learned")}
    return Found(texts, sinks, rate=rate, massive=massive, phi=np.concatenate([p["phi"] for p in second]), **maps)


def _sink(row: np.ndarray, held: float, phi: float, start: int, texts: Texts) -> Sink:
    c = dict(zip(COLUMNS, row.tolist(), strict=True))
    text, key = start + int(c["text"]), int(c["key"])
    says = c["received"] * c["value_norm"] / c["output_norm"] if c["output_norm"] > 0 else float("nan")
    return Sink(
        text, Head(int(c["layer"]), int(c["head"])), key, int(texts.tokens[text, key]), c["received"], c["even"],
        float(held), c["value_ratio"], c["key_ratio"], says, float(phi),
    )  # fmt: skip


def _mean(values) -> float:  # type: ignore[no-untyped-def]
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
