"""The pattern in blocks: one program a cell, made again from the log-sum-exp, so that nothing needs an atomic."""

# what Triton compiles is not Python's typing
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportOptionalOperand=false
# pyright: reportPossiblyUnboundVariable=false, reportReturnType=false, reportAttributeAccessIssue=false
from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from workbench_kernels.triton_columns import factor_of
from workbench_kernels.triton_math import LOG2E, score_edits, scores, sees, tile

if TYPE_CHECKING:  # for readers; Triton looks up names that are not quoted
    from jaxtyping import Float, Int
    from torch import Tensor

    from workbench_kernels.triton_types import Real, Whole


@triton.jit
def thumbnail(
    Q: "Float[Tensor, 'b h n D']", K: "Float[Tensor, 'b g m D']", LSE: "Float[Tensor, 'b h n']",
    FACTOR: "Float[Tensor, 'b h n classes'] | None", OUT: "Float[Tensor, 'b h 2 cells cells']",
    PAD: "Int[Tensor, 'b m'] | None", QUERIES: "Int[Tensor, 'b n'] | None", EDITED: "Int[Tensor, 'b h'] | None",
    ON: "Int[Tensor, 'b n'] | None", WINDOW: "Int[Tensor, 'b h'] | None", FIRST: "Int[Tensor, ' b'] | None",
    CLS: "Int[Tensor, 'b h m'] | None", BIAS: "Float[Tensor, 'b h LIVE'] | None",
    BOOST: "Float[Tensor, 'b h LIVE'] | None", sqb: "Whole", sqh: "Whole", sqn: "Whole", skb: "Whole", skh: "Whole",
    skn: "Whole", scb: "Whole", sch: "Whole", n: "Whole", m: "Whole", H: "Whole", shift: "Whole", reach: "Whole",
    sink: "Whole", scale: "Real", cap: "Real", side: "Whole", cells: "Whole", q_offset: "Whole", kv_offset: "Whole",
    EDIT: tl.constexpr, NF: tl.constexpr, LIVE: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, HAS_CAP: tl.constexpr, HAS_REACH: tl.constexpr, UP: tl.constexpr,
    PREC: tl.constexpr,
) -> None:  # fmt: skip
    """OUT [b, h, 2, cells, cells]: sum and greatest of the weights of valid queries in one cell, side positions wide."""
    bh = tl.program_id(1)
    if EDITED is not None:  # noqa: SIM102  (decided when the kernel is compiled)
        if tl.load(EDITED + bh) != EDIT:
            return
    r, c = tl.program_id(0) // cells, tl.program_id(0) % cells
    b, h = bh // H, bh % H
    one = tl.full([], 1, tl.int64)
    qb, kb = Q + one * b * sqb + one * h * sqh, K + one * b * skb + one * (h // GROUP) * skh
    row_low, row_high = tl.maximum(0, r * side - q_offset), tl.minimum(n, (r + 1) * side - q_offset)
    col_low, col_high = tl.maximum(0, c * side - kv_offset), tl.minimum(m, (c + 1) * side - kv_offset)
    if col_low >= row_high + shift:
        return  # later keys than every row; OUT is zero
    WINDOWED: tl.constexpr = WINDOW is not None
    first = 0
    if WINDOWED:
        window, first = tl.load(WINDOW + bh), tl.load(FIRST + b) + sink
    total, most = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32)
    for m0 in range(row_low, row_high, BM):
        rows = m0 + tl.arange(0, BM)
        inside, at_row = rows < row_high, one * bh * n + rows
        q = tile(qb, m0, row_high, sqn, D, BD, BM, UP)
        lse = tl.load(LSE + at_row, mask=inside, other=0.0) * LOG2E
        on = tl.load(ON + b * n + rows, mask=inside, other=1) if ON is not None else tl.full([BM], 1, tl.int32)
        near = rows
        if WINDOWED:
            near = tl.where(on != 0, tl.where(window > 0, window, 2147483647), 2147483647)
        valid = inside
        if QUERIES is not None:
            valid = inside & (tl.load(QUERIES + b * n + rows, mask=inside, other=0) != 0)
        for n0 in range(col_low, tl.minimum(col_high, m0 + BM + shift), BN):
            cols = n0 + tl.arange(0, BN)
            s = scores(q, tl.trans(tile(kb, n0, col_high, skn, D, BD, BN, UP)), scale, cap, HAS_CAP, PREC)
            cls = tl.load(CLS + b * scb + h * sch + cols, mask=cols < m, other=0)[None, :] if CLS is not None else None
            if BIAS is not None or BOOST is not None:
                s = score_edits(s, cls, on[:, None] != 0, BIAS, BOOST, 0, bh, LIVE)
            pad = tl.load(PAD + b * m + cols, mask=cols < m, other=0)[None, :] if PAD is not None else None
            pos = (rows + shift)[:, None]
            ok = sees(pos, cols[None, :], col_high, reach, near[:, None], first, pad, HAS_REACH, WINDOWED)
            w = tl.where(ok & valid[:, None], tl.exp2(s - lse[:, None]), 0.0)
            if FACTOR is not None:
                w = w * factor_of(FACTOR, at_row, inside, cls, NF, True)
            total += tl.sum(w, 1)
            most = tl.maximum(most, tl.max(w, 1))
    cell = OUT + one * bh * 2 * cells * cells + r * cells + c
    tl.store(cell, tl.sum(total, 0))
    tl.store(cell + cells * cells, tl.max(most, 0))
