"""From edits to what the kernels take: per layer, one `HeadEdits` per set of query rows.

A sheet is written once per text and layer; in later steps of its KV cache it only grows. Edits that say something else
of each query are written in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from workbench_kernels import HeadEdits

from workbench.errors import BadInput
from workbench.interventions.class_table import ROOM
from workbench.interventions.edit import Edit, Rule, edits_in
from workbench.interventions.memory import Memory, Rows
from workbench.interventions.sheet import Sheet
from workbench.looking import Look, Seen
from workbench.masks import CompactMask


def compile_edits(
    model: Any, active: Sequence[Any], batch: int, decode_from: Sequence[int], memory: Memory, past: int = 0
) -> Compiled | None:
    """The active edits of one forward, or None where nothing is edited.

    active: interventions that hold together; each one edit or sum, or a list with one per batch row. memory: of the
    text's first `past` columns.
    """
    if not active:
        return None
    rows = tuple(_row(active, i, batch) for i in range(batch if any(isinstance(a, list) for a in active) else 1))
    if memory.made_of is None or not _same(memory.made_of[0], rows):
        for edits in rows:
            _check(model, edits)
    compiled = Compiled(model, rows, batch, decode_from, memory, past)
    return compiled if compiled.by_layer else None


def _same(a: Rows, b: Rows) -> bool:
    """Whether the very same edits; comparing their values would compare tensors."""
    return [[id(e) for e in row] for row in a] == [[id(e) for e in row] for row in b]


class Compiled:
    """The edits of one forward, layer by layer."""

    def __init__(
        self, model: Any, rows: Rows, batch: int, decode_from: Sequence[int], memory: Memory, past: int
    ) -> None:
        self.model, self.rows, self.memory, self.past = model, rows, memory, past
        starts = torch.tensor(list(decode_from))
        self.starts = starts.expand(batch) if len(starts) == 1 else starts
        self.begun = False
        self.by_layer: dict[int, list[list[Edit]]] = {}
        for i, edits in enumerate(rows):
            for edit in edits:
                for layer in edit.layers(model):
                    self.by_layer.setdefault(layer, [[] for _ in rows])[i].append(edit)

    def __call__(self, layer: int, mask: CompactMask, look: Look) -> list[HeadEdits]:
        """What the kernels take. look: asked once per text, where an edit has to find its keys."""
        edits = self._edits(layer, mask)
        for rule, heads in self._unfound(layer, edits).items():
            self._find(layer, mask, rule, heads, look)
        return self._by_phase(layer, edits, mask, keep=True)

    def known(self, layer: int, mask: CompactMask) -> list[HeadEdits]:
        """The edits that have to find nothing."""
        edits = [[e for e in row if e.finder is None] for row in self._edits(layer, mask)]
        return self._by_phase(layer, edits, mask, keep=False)

    def _edits(self, layer: int, mask: CompactMask) -> list[list[Edit]]:
        if not self.begun:
            self._begin(mask)
        rows = self.by_layer.get(layer, [])
        # padding makes rows differ: positions count from each row's first token
        if len(rows) == 1 and (mask.first is not None or any(e.by_row for e in rows[0])):
            rows = rows * mask.batch
        return rows

    def _begin(self, mask: CompactMask) -> None:
        """Sheets hold for these edits and this padding."""
        if any(len(flags) != mask.batch for flags in self.memory.found.values()):
            raise BadInput(
                f"{mask.batch} batch rows go on from a cache of another number: take rows of it with "
                "workbench.probes.caches.keep_rows"
            )
        shape = [mask.batch, *([] if mask.first is None else mask.first.tolist())]
        made_of = self.memory.made_of
        if made_of is None or made_of[1] != shape or not _same(made_of[0], self.rows):
            self.memory.sheets.clear()
        self.memory.made_of, self.begun = (self.rows, shape), True

    def _unfound(self, layer: int, rows: list[list[Edit]]) -> dict[Rule, list[int]]:
        out: dict[Rule, set[int]] = {}
        for edit in (e for row in rows for e in row):
            if (rule := edit.finder) is not None:
                heads = {h for at, h in edit.heads if at == layer and (at, h, rule) not in self.memory.found}
                out.setdefault(rule, set()).update(heads)
        return {rule: sorted(heads) for rule, heads in out.items() if heads}

    def _find(self, layer: int, mask: CompactMask, rule: Rule, heads: list[int], look: Look) -> None:
        if self.past:
            raise BadInput(
                f"L{layer}H{heads[0]}: the edit finds its keys in the first forward of a text, and this cache was filled "
                "without it: begin the text under the edit, or give keys="
            )
        text = torch.arange(mask.keys)[None] <= self.starts[:, None]
        text = text.to(mask.device) if mask.padding is None else text.to(mask.device) & mask.padding
        seen = Seen(replace(mask, padding=text), partial(look, heads, self.known(layer, mask), text))
        found = rule(seen) & text[:, None]
        for i, head in enumerate(heads):
            self.memory.found[layer, head, rule] = found[:, i]

    def _by_phase(self, layer: int, rows: list[list[Edit]], mask: CompactMask, keep: bool) -> list[HeadEdits]:
        if not any(rows):
            return []
        if all(e.at == "both" for row in rows for e in row):
            return [self._held(layer, "both", rows, mask, None, keep)]
        columns = torch.arange(mask.queries) + mask.q_offset
        decode, out = columns[None] >= self.starts[:, None], []
        for phase, queries in (("prefill", ~decode), ("decode", decode)):
            part = [[e for e in row if e.at in (phase, "both")] for row in rows]
            if any(part) and bool(queries.any()):
                everywhere = bool(queries.all())
                flags = None if everywhere else queries.to(mask.device)
                out.append(self._held(layer, phase, part, mask, flags, keep))
        return out

    def _held(
        self, layer: int, phase: str, rows: list[list[Edit]], mask: CompactMask, queries: Bool[Tensor, "#b q"] | None,
        keep: bool,
    ) -> HeadEdits:  # fmt: skip
        """A sheet that was written before, or a new one; as long as the text."""
        sheets, at = self.memory.sheets, (layer, phase)
        edits = sheets.get(at) if keep else None
        if edits is None:
            edits = _sheet(self.model, layer, rows, mask, self.memory).finish()
        edits = _long_enough(edits, mask.kv_offset + mask.keys)
        if keep and not any(e.by_column for row in rows for e in row):
            sheets[at] = edits
        if mask.kv_offset and edits.key_class is not None:  # a sliding cache has dropped its oldest keys
            edits = replace(edits, key_class=edits.key_class[..., mask.kv_offset :])
        return edits if queries is None else replace(edits, queries=queries)


def _long_enough(edits: HeadEdits, columns: int) -> HeadEdits:
    held = edits.key_class
    if held is None or held.shape[-1] >= columns:
        return edits
    more = held[..., -1:].expand(*held.shape[:-1], columns + ROOM - held.shape[-1])  # keys to come are of one class
    return replace(edits, key_class=torch.cat([held, more], -1))


def _row(active: Sequence[Any], row: int, batch: int) -> tuple[Edit, ...]:
    out: list[Edit] = []
    for item in active:
        if isinstance(item, list):
            if len(item) != batch:
                raise BadInput(f"{len(item)} interventions for {batch} batch rows: give one, or one a row")
            item = item[row]
        out += edits_in(item)
    return tuple(out)


def _check(model: Any, edits: Sequence[Edit]) -> None:
    for edit in edits:
        for layer, head in edit.heads:
            if not (0 <= layer < model.n_layers and 0 <= head < model.n_heads):
                raise BadInput(
                    f"no head L{layer}H{head}: the model has {model.n_layers} layers × {model.n_heads} heads"
                )
        for layer in edit.layers(model):
            if layer not in model.seam.layers:
                raise BadInput(f"layer {layer} has no softmax attention to edit")


def _sheet(model: Any, layer: int, rows: list[list[Edit]], mask: CompactMask, memory: Memory) -> Sheet:
    sheet = Sheet(model, layer, len(rows), mask, memory)
    for i, edits in enumerate(rows):
        for edit in edits:
            edit.write(sheet, i)
    return sheet
