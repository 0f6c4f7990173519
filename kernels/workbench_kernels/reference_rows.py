"""One row of the pattern from the definitions, a key at a time: the truth's own words, shared with no backend."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench_kernels.types import AttentionSpec, HeadEdits


def at(parameter: Tensor, batch: int) -> Tensor:
    """What holds in a batch row."""
    return parameter[batch if len(parameter) > 1 else 0]


class Row:
    """One query of one head: what it sees and which edits hold."""

    def __init__(
        self, spec: AttentionSpec, edits: HeadEdits | None, batch: int, head: int, query: int, first: int
    ) -> None:
        self.spec, self.batch, self.position, self.first = spec, batch, query + spec.q_offset, first
        self.window, self.sink, self.uniform = 0, 0, False
        self.head, self.query, self.edits = head, query, None
        if edits is None or (edits.queries is not None and not at(edits.queries, batch)[query]):
            return
        self.edits = edits
        if edits.window is not None:
            self.window, self.sink = int(at(edits.window, batch)[head]), edits.sink
        if edits.uniform is not None:
            self.uniform = bool(at(edits.uniform, batch)[head])

    def _class(self, key: int) -> int:
        assert self.edits is not None and self.edits.key_class is not None
        held = at(self.edits.key_class, self.batch)
        return int(held[self.head if len(held) > 1 else 0, key])

    def _parameter(self, name: str, key_class: int, neutral: float) -> float:
        table = None if self.edits is None else getattr(self.edits, name)
        if table is None or not 0 < key_class <= table.shape[-1]:
            return neutral
        return float(at(table, self.batch)[self.head, key_class - 1])

    def score(self, s: Tensor, key: int) -> Tensor:
        """PAI's boost, then a bias."""
        if self.edits is None or self.edits.key_class is None:
            return s
        c = self._class(key)
        return s + self._parameter("boost", c, 0.0) * s.abs() + self._parameter("bias", c, 0.0)

    def edited(self, p: Tensor, valid: list[int], seen: list[int]) -> Tensor:
        """The row after the softmax: replaced, weighed by class, made even."""
        if self.edits is None:
            return p
        p = self._replaced(p, valid)
        if self.edits.class_gain is not None:
            p = self._weighed(p)
        if self.uniform:
            p = torch.zeros_like(p)
            p[seen] = 1 / max(1, len(seen))
        return p

    def _replaced(self, p: Tensor, valid: list[int]) -> Tensor:
        rows = None if self.edits is None else self.edits.rows
        if rows is None:
            return p
        plain, new = Row(self.spec, None, self.batch, self.head, self.query, self.first), None
        for r, query in enumerate(at(rows.rows, self.batch).tolist()):
            held = at(rows.heads, self.batch)[self.head]
            if query != self.query or not (held if held.dim() == 0 else held[r if len(held) > 1 else 0]):
                continue
            new = torch.zeros_like(p) if new is None else new
            keys, weights = at(rows.keys, self.batch), at(rows.weights, self.batch)
            for key, weight in zip(keys[r].tolist(), weights[r].tolist(), strict=True):
                if key in valid and plain.sees(key):
                    new[key] += weight
        return p if new is None else new

    def _weighed(self, p: Tensor) -> Tensor:
        """Each class times its gain; then the freed mass to class 0, to all, or to nobody."""
        assert self.edits is not None
        of = [self._class(j) for j in range(len(p))]
        members = {c: [j for j in range(len(p)) if of[j] == c] for c in set(of)}
        new = p.clone()
        for c, keys in members.items():
            if p[keys].sum() > self._parameter("least_mass", c, 0.0):
                new[keys] *= self._parameter("class_gain", c, 1.0)
        rule = 0 if self.edits.freed is None else int(at(self.edits.freed, self.batch)[self.head])
        if rule == 1:
            others = members.get(0, [])
            if not p[others].sum() > 0:
                return p
            freed = sum((p[k] - new[k]).sum() for c, k in members.items() if c)
            new[others] *= max(0, 1 + freed / p[others].sum())
        if rule == 2:
            if not new.sum() > 0:
                return p
            new *= p.sum() / new.sum()
        return new

    def sees(self, key: int) -> bool:
        """Whether the query sees a key, padding aside."""
        position, spec = key + self.spec.kv_offset, self.spec
        if spec.allowed is None:
            seen = position <= self.position and (spec.sliding is None or self.position - position < spec.sliding)
        else:
            index = [torch.tensor(x) for x in (self.batch, 0, self.position, position)]
            seen = bool(spec.allowed(*index))
        if self.window:
            seen = seen and (self.position - position < self.window or position < self.first + self.sink)
        return seen
