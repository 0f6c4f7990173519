"""From edits to what the kernels take: per layer, one `HeadEdits` per set of query rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from workbench_kernels import HeadEdits

from workbench.errors import BadInput
from workbench.interventions.edit import Edit, Intervention
from workbench.interventions.sheet import Sheet
from workbench.masks import CompactMask


def compile_edits(
    model: Any, active: Sequence[Any], batch: int, decode_from: Sequence[int]
) -> Callable[[int, CompactMask], list[HeadEdits]] | None:
    """A function (layer, mask) → edits, or None where nothing is edited.

    active: interventions that hold together; each one edit or sum, or a list with one per batch row.
    """
    rows = [_row(model, active, i, batch) for i in range(batch if any(isinstance(a, list) for a in active) else 1)]
    by_layer: dict[int, list[list[Edit]]] = {}
    for i, edits in enumerate(rows):
        for edit in edits:
            for layer in edit.layers(model):
                by_layer.setdefault(layer, [[] for _ in rows])[i].append(edit)
    if not by_layer:
        return None

    def of(layer: int, mask: CompactMask) -> list[HeadEdits]:
        edits = by_layer.get(layer)
        return [] if edits is None else _layer(model, layer, edits, mask, decode_from)

    return of


def _row(model: Any, active: Sequence[Any], row: int, batch: int) -> list[Edit]:
    out: list[Edit] = []
    for item in active:
        if isinstance(item, list):
            if len(item) != batch:
                raise BadInput(f"{len(item)} interventions for {batch} batch rows: give one, or one a row")
            item = item[row]
        out += item.edits if isinstance(item, Intervention) else (item,)
    for edit in out:
        for layer, head in edit.heads:
            if not (0 <= layer < model.n_layers and 0 <= head < model.n_heads):
                raise BadInput(
                    f"no head L{layer}H{head}: the model has {model.n_layers} layers × {model.n_heads} heads"
                )
        for layer in edit.layers(model):
            if layer not in model.seam.layers:
                raise BadInput(f"layer {layer} has no softmax attention to edit")
    return out


def _layer(
    model: Any, layer: int, rows: list[list[Edit]], mask: CompactMask, decode_from: Sequence[int]
) -> list[HeadEdits]:
    # padding makes rows differ: positions count from each row's first token
    if len(rows) == 1 and (mask.first is not None or any(e.by_row for e in rows[0])):
        rows = rows * mask.batch
    if all(e.at == "both" for row in rows for e in row):
        return [_sheet(model, layer, rows, mask).finish(None)]
    columns = torch.arange(mask.queries, device=mask.device) + mask.q_offset
    decode = columns[None] >= torch.tensor(list(decode_from), device=mask.device)[:, None]
    out = []
    for phase, queries in (("prefill", ~decode), ("decode", decode)):
        part = [[e for e in row if e.at in (phase, "both")] for row in rows]
        if any(part) and bool(queries.any()):
            out.append(_sheet(model, layer, part, mask).finish(queries))
    return out


def _sheet(model: Any, layer: int, rows: list[list[Edit]], mask: CompactMask) -> Sheet:
    sheet = Sheet(model, layer, len(rows), mask)
    for i, edits in enumerate(rows):
        for edit in edits:
            edit.write(sheet, i)
    return sheet
