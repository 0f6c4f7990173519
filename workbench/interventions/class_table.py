"""Key classes of the heads of one layer: which keys an edit means, and what is done to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from workbench_kernels.types import CLASSES

from workbench.errors import BadInput, EditConflict

if TYPE_CHECKING:
    from workbench.interventions.sheet import Sheet


ROOM = 256
"""Columns that class tables are longer than the text, and grow by."""


@dataclass(frozen=True)
class KeyClass:
    """Some keys, by their columns, and what is done to them; freed is None for edits of scores.

    later: keys that the text gets after these belong to it, too.
    """

    keys: tuple[int, ...]
    later: bool = False
    gain: float = 1.0
    freed: int | None = None
    least: float = 0.0
    bias: float = 0.0
    boost: float = 0.0


class ClassTable:
    """The classes of every (batch row, head) of a sheet."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.held: dict[tuple[int, int], list[KeyClass]] = {}
        self.freed: dict[tuple[int, int], int] = {}
        self.spared: dict[tuple[int, int], set[int]] = {}
        self.later_spared: set[tuple[int, int]] = set()
        self.checked: set[tuple[int, tuple[int, ...]]] = set()

    def add(self, row: int, heads: list[int], columns: tuple[int, ...], **what: Any) -> None:
        """One class of keys, given by their columns. Raises BadInput for padding, EditConflict for a second meaning.

        Scores and weights of the same keys can be edited both: such keys become a class of their own.
        """
        self.check(row, columns)
        for head in heads:
            new, kept = KeyClass(columns, **what), []
            if new.freed is not None and self.freed.setdefault((row, head), new.freed) != new.freed:
                raise EditConflict(f"{self.sheet.name(head)}: two edits of keys with different rules for the mass")
            for other in self.held.get((row, head), []):
                if other.later and new.later:
                    raise EditConflict(f"{self.sheet.name(head)}: two edits of the keys to come")
                if set(other.keys) & set(new.keys):
                    both = _both(other, new)
                    if both is None:
                        raise EditConflict(f"{self.sheet.name(head)}: two edits of the same keys")
                    kept.append(both)
                    other, new = _without(other, both.keys), _without(new, both.keys)
                kept.append(other)
            if kept := [c for c in (*kept, new) if c.keys or c.later]:
                self.held[row, head] = kept

    def spare(self, row: int, heads: list[int], columns: Iterable[int], later: bool = False) -> None:
        """Keys that are not edited and receive nothing either; with `later` those to come, too."""
        keys = tuple(c for c in columns if c < self.end)
        self.check(row, keys)
        for head in heads:
            self.spared.setdefault((row, head), set()).update(keys)
            if later:
                self.later_spared.add((row, head))

    @property
    def end(self) -> int:
        """The column after the last token so far."""
        return self.sheet.mask.q_offset + self.sheet.mask.queries

    def check(self, row: int, columns: tuple[int, ...]) -> None:
        """Raises BadInput for columns off the text or on padding."""
        if (row, columns) not in self.checked:
            self._check(row, columns)
            self.checked.add((row, columns))

    def _check(self, row: int, columns: tuple[int, ...]) -> None:
        if columns and not 0 <= min(columns) <= max(columns) < self.end:
            raise BadInput(f"keys {min(columns)} to {max(columns)}: the text has columns 0 to {self.end - 1}")
        mask = self.sheet.mask
        held = [c - mask.kv_offset for c in columns if c >= mask.kv_offset]
        if mask.padding is not None and held and not bool(mask.padding[row][held].all()):
            raise BadInput(f"keys {min(columns)} to {max(columns)} of batch row {row} are on padding")

    def finish(self, device: torch.device) -> dict[str, Tensor]:
        """The fields of `HeadEdits` that concern classes."""
        layout = {at: self._layout(at) for at in self.held}
        if not layout:
            return {}
        shape = (self.sheet.rows, self.sheet.heads, max(map(len, layout.values())))
        tables = {
            "class_gain": torch.ones(shape), "least_mass": torch.zeros(shape),
            "bias": torch.zeros(shape), "boost": torch.zeros(shape),
        }  # fmt: skip
        freed = torch.zeros(shape[:2], dtype=torch.long)
        for at, held in layout.items():
            for i, c in enumerate(held):
                index = (*at, i)
                tables["class_gain"][index], tables["least_mass"][index] = c.gain, c.least
                tables["bias"][index], tables["boost"][index] = c.bias, c.boost
                freed[at] = freed[at] if c.freed is None else c.freed
        neutral = {"class_gain": 1.0}
        out = {k: t.to(device) for k, t in tables.items() if bool((t != neutral.get(k, 0.0)).any())}
        return {**out, "freed": freed.to(device), "key_class": self._key_class(layout).to(device)}

    def _layout(self, at: tuple[int, int]) -> list[KeyClass]:
        """The classes of one head; those that are spared by one edit and meant by another are meant."""
        held = self.held[at]
        rest = self.spared.get(at, set()).difference(*(c.keys for c in held))
        later = at in self.later_spared and not any(c.later for c in held)
        held = [*held, KeyClass(tuple(sorted(rest)), later)] if rest or later else held
        if len(held) > CLASSES:
            raise EditConflict(f"{self.sheet.name(at[1])}: {len(held)} classes of keys; at most {CLASSES} in one head")
        return held

    def _key_class(self, layout: dict[tuple[int, int], list[KeyClass]]) -> Tensor:
        """Class of each key from the text's first on, and ROOM for keys to come; one entry for all heads that agree."""
        ways = {at: tuple((c.keys, c.later) for c in held) for at, held in layout.items()}
        by_row: dict[int, set[Any]] = {}
        for (row, _), way in ways.items():
            by_row.setdefault(row, set()).add(way)
        heads = self.sheet.heads if any(len(w) > 1 for w in by_row.values()) else 1
        out = torch.zeros(self.sheet.rows, heads, self.end + ROOM, dtype=torch.int8)
        for (row, head), held in ways.items():
            for i, (keys, later) in enumerate(held):
                line = out[row, head if heads > 1 else 0]
                line[list(keys)] = i + 1
                if later:
                    line[self.end :] = i + 1
        return out


def _both(a: KeyClass, b: KeyClass) -> KeyClass | None:
    """The keys that two classes share, edited by both; None where they would edit the same thing.

    A class that waits for a mass cannot be parted: its mass would no longer be that of all its keys.
    """
    scores, weights = (a, b) if a.freed is None else (b, a)
    if scores.freed is not None or weights.freed is None or weights.least or weights.bias or weights.boost:
        return None
    if scores.later or weights.later:
        return None
    shared = tuple(k for k in a.keys if k in set(b.keys))
    return replace(weights, keys=shared, bias=scores.bias, boost=scores.boost)


def _without(held: KeyClass, keys: Iterable[int]) -> KeyClass:
    away = set(keys)
    return replace(held, keys=tuple(k for k in held.keys if k not in away))
