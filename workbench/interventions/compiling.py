"""From edits to what the kernels take: per layer, one `HeadEdits` per set of query rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from workbench_kernels import HeadEdits

from workbench.errors import BadInput, EditConflict
from workbench.interventions.edit import Edit, Intervention


def compile_edits(
    model: Any, active: Sequence[Any], batch: int, decode_from: Sequence[int]
) -> Callable[[int, Any], list[HeadEdits]] | None:
    """A function (layer, mask) → edits, or None where nothing is edited.

    active: interventions that hold together; each one edit or sum, or a list with one per batch row.
    """
    rows = [_row(model, active, i, batch) for i in range(batch if any(isinstance(a, list) for a in active) else 1)]
    by_layer: dict[int, list[list[Edit]]] = {}
    for i, edits in enumerate(rows):
        for edit in edits:
            for layer in {layer for layer, _ in edit.heads}:
                by_layer.setdefault(layer, [[] for _ in rows])[i].append(edit)
    if not by_layer:
        return None

    def of(layer: int, mask: Any) -> list[HeadEdits]:
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
            if layer not in model.seam.layers:
                raise BadInput(f"layer {layer} has no softmax attention to edit")
    return out


def _layer(model: Any, layer: int, rows: list[list[Edit]], mask: Any, decode_from: Sequence[int]) -> list[HeadEdits]:
    columns = torch.arange(mask.queries, device=mask.device) + mask.q_offset
    decode = columns[None] >= torch.tensor(list(decode_from), device=mask.device)[:, None]
    if all(e.at == "both" for row in rows for e in row):
        return [_stack(model, layer, rows, columns, None)]
    out = []
    for phase, queries in (("prefill", ~decode), ("decode", decode)):
        part = [[e for e in row if e.at in (phase, "both")] for row in rows]
        if any(part) and bool(queries.any()):
            out.append(_stack(model, layer, part, columns, queries))
    return out


def _stack(model: Any, layer: int, rows: list[list[Edit]], columns: Tensor, queries: Tensor | None) -> HeadEdits:
    shape, device = (len(rows), model.n_heads), columns.device
    gain, window = torch.ones(shape, device=device), torch.zeros(shape, dtype=torch.long, device=device)
    uniform, replace = (torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(2))
    sinks = {e.sink for row in rows for e in row if e.kind == "window"}
    if len(sinks) > 1:
        raise EditConflict(f"layer {layer}: windows with different sinks ({sorted(sinks)}) in one forward")
    source = None
    for i, edits in enumerate(rows):
        for edit in edits:
            heads = [h for at, h in edit.heads if at == layer]
            if edit.kind == "gain":
                gain[i, heads] *= edit.gain
                continue
            target = {"uniform": uniform, "window": window, "replace": replace}[edit.kind]
            if bool((target[i, heads] != 0).any()):
                raise EditConflict(f"L{layer}H{heads[0]}: two {edit.kind} edits of one head")
            target[i, heads] = edit.recent if edit.kind == "window" else True
            if edit.kind == "replace":
                if source not in (None, edit.source):
                    raise EditConflict(f"L{layer}H{heads[0]}: two reference sets in one forward")
                source = edit.source
    return HeadEdits(
        gain=gain if bool((gain != 1).any()) else None,
        uniform=uniform if bool(uniform.any()) else None,
        window=window if bool(window.any()) else None,
        sink=min(sinks, default=4),
        replace=replace if source is not None else None,
        replacement=None if source is None else source.at(layer, columns),
        queries=queries,
    )
