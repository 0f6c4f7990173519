"""The GPU backend: what is launched for a request. Imports Triton; everything else in the package works without it.

Passes: `forward` gives output, log-sum-exp and entropy (once over the heads without edits, once over the others, on the
same grid); with gains on several key classes `masses` and `weighted` take the edited heads instead; received attention,
span masses of all rows and the thumbnail are second passes from the log-sum-exp; chosen rows are plain torch, as in
`chunked`. Not differentiable. float32 dots are exact in the interpreter and tf32x3 (three TF32 products) on a GPU;
half-precision operands are multiplied as they are and summed in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench_kernels import (
    triton_columns,
    triton_decode,
    triton_forward,
    triton_launch,
    triton_masses,
    triton_thumbnail,
)
from workbench_kernels.chunked import add_chosen_rows
from workbench_kernels.patterns import finish
from workbench_kernels.reducers import indicator, seeing
from workbench_kernels.triton_call import Call, Tiles, cdiv, power
from workbench_kernels.triton_support import Unsupported, why_not
from workbench_kernels.types import CLASSES, AttentionSpec, HeadEdits, Reductions, Statistics

SPANS = 16
"""Spans whose masses one launch gives: the least width of a dot."""


def attend(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: HeadEdits | None = None,
    reductions: Reductions | None = None,
) -> tuple[Float[Tensor, "b h q d"], Statistics]:
    """Output and statistics. Raises Unsupported, with the reason, where `chunked` must be used instead."""
    want = reductions or Reductions()
    reason = why_not(spec, edits, want)
    if reason is None and torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        reason = "gradients"
    if reason is not None:
        raise Unsupported(f"the triton backend does not do {reason}; use the chunked one")
    with torch.no_grad():
        call = Call(q, k, v, spec, edits)
        decoding = not want.entropy and triton_decode.suits(call)
        (triton_decode.run if decoding else _prefill)(call, want)
        found = _second_passes(call, want)
        if want.rows is not None and (want.top_k or want.spans is not None):
            add_chosen_rows(found, q, k, spec, edits, want)
        if edits is not None and edits.replace is not None:
            rest = HeadEdits(replace=edits.replace, replacement=edits.replacement, queries=edits.queries)
            call.z = finish(call.z, rest)
        if want.norms:
            found.norms = call.z.float().norm(dim=-1)
    return call.z, found


def _prefill(call: Call, want: Reductions) -> None:
    """Output, log-sum-exp, entropy and factors."""
    if want.entropy:
        call.entropy = torch.empty_like(call.lse)
    for edit in call.launches():
        if edit and call.classes and not call.two:
            _several_classes(call)
        else:
            _forward(call, want, edit)


def _forward(call: Call, want: Reductions, edit: bool) -> None:
    two = edit and call.two
    if two and (want.received or want.thumbnail or (want.spans is not None and want.rows is None)):
        call.factor = torch.ones(call.b, call.h, call.n, 2, device=call.device)
    tiles = call.two_tiles if two else call.tiles
    given = call.arguments(edit, tiles=tiles)
    tables = {x: call.edit(x) if two else None for x in ("CGAIN", "LEAST", "FREED")}
    _launch(
        triton_forward.forward, call, cdiv(call.n, tiles.rows), given | tables, tiles,
        V=call.v, OUT=call.z, ENTROPY=call.entropy, FACTOR=call.factor if two else None, SINK=call.sinks,
        GAIN=call.edit("GAIN") if edit else None, EDITED=call.edit("EDITED"), EDIT=int(edit), TWO=two,
        svb=call.v.stride(0), svh=call.v.stride(1), svn=call.v.stride(2),
    )  # fmt: skip


def _several_classes(call: Call) -> None:
    call.factor = torch.ones(call.b, call.h, call.n, 1 + CLASSES, device=call.device)
    tables = {x: call.edit(x) for x in ("CGAIN", "LEAST", "FREED")}
    _launch(
        triton_masses.masses, call, cdiv(call.n, call.tiles.rows), call.arguments(True) | tables,
        FACTOR=call.factor, ENTROPY=call.entropy, SINK=call.sinks, EDITED=call.edit("EDITED"),
    )  # fmt: skip
    weigh(call, call.v, call.z, True, call.edit("GAIN"))


def _launch(
    kernel: Any, call: Call, blocks: int, given: dict[str, Any], tiles: Tiles | None = None, **more: Any
) -> None:
    if blocks * call.b * call.h:
        options = (tiles or call.tiles).options
        triton_launch.launch(kernel, call.grid(blocks), given | more, options)


def weigh(call: Call, x: Tensor, out: Tensor, edit: bool, gain: Tensor | None = None) -> None:
    """The edited pattern times a matrix [b, g or 1, k, e]."""
    groups = x.shape[1] > 1 or call.k.shape[1] == 1
    _launch(
        triton_columns.weighted, call, cdiv(call.n, call.tiles.rows), call.arguments(edit) | call.flags(edit),
        X=x, OUT=out, GAIN=gain, sxb=x.stride(0), sxh=x.stride(1) if groups else 0, sxn=x.stride(2),
        E=x.shape[-1], BE=power(x.shape[-1]),
    )  # fmt: skip


def _second_passes(call: Call, want: Reductions) -> Statistics:
    """Statistics made from the log-sum-exp."""
    out = Statistics(lse=call.lse if want.lse else None, entropy=call.entropy)
    if want.sink_mass:
        sinks = call.lse.new_tensor(float("nan")) if call.sinks is None else call.sinks.float()[None, :, None]
        out.sink_mass = (sinks - call.lse).exp()
    if want.received:
        total = torch.zeros(call.b, call.h, call.m, device=call.device)
        blocks = cdiv(call.m, call.tiles.keys)
        _each(call, triton_columns.received, blocks, OUT=total, QUERIES=call.queries)
        out.received = total / seeing(call.spec, call.n, call.m, call.device).clamp_min(1)[:, None]
    if want.spans is not None and want.rows is None:
        out.mass = _span_masses(call, want.spans)
    if want.thumbnail:
        out.thumbnail = _thumbnail(call, want.thumbnail)
    return out


def _each(call: Call, kernel: Any, blocks: int, **more: Any) -> None:
    for edit in call.launches():
        _launch(kernel, call, blocks, call.arguments(edit) | call.flags(edit), **more)


def _span_masses(call: Call, spans: Tensor) -> Tensor:
    parts: list[Tensor] = []
    for part in spans.to(call.device).split(SPANS, 1):
        inside = indicator(part, call.m, torch.float32)[:, None].contiguous()
        mass = torch.empty(call.b, call.h, call.n, part.shape[1], device=call.device)
        for edit in call.launches():
            weigh(call, inside, mass, edit)
        parts.append(mass)
    return torch.cat(parts, -1)


def _thumbnail(call: Call, cells: int) -> Tensor:
    spec = call.spec
    side = cdiv(max(spec.q_offset + call.n, spec.kv_offset + call.m), cells)
    out = torch.zeros(call.b, call.h, 2, cells, cells, device=call.device)
    _each(
        call, triton_thumbnail.thumbnail, cells * cells, OUT=out, QUERIES=call.queries,
        side=side, cells=cells, q_offset=spec.q_offset, kv_offset=spec.kv_offset,
    )  # fmt: skip
    valid = torch.ones(call.b, call.n, device=call.device) if call.queries is None else call.queries.float()
    place = (torch.arange(call.n, device=call.device) + spec.q_offset) // side
    rows = torch.zeros(call.b, cells, device=call.device).index_add_(1, place, valid)
    out[:, :, 0] /= rows.clamp_min(1)[:, None, :, None]
    return out
