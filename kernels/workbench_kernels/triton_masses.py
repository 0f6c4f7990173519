"""Masses of the key classes in each row, where several classes have gains, and the factors that follow from them."""

# what Triton compiles is not Python's typing
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportOptionalOperand=false
# pyright: reportPossiblyUnboundVariable=false, reportReturnType=false, reportAttributeAccessIssue=false
from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from workbench_kernels.triton_math import (
    LOG2E,
    class_factors,
    entropy_of,
    hidden_gap,
    key_range,
    log_sum,
    score_edits,
    scores,
    sees,
    tile,
)

if TYPE_CHECKING:  # for readers; Triton looks up names that are not quoted
    from jaxtyping import Float, Int
    from torch import Tensor

    from workbench_kernels.triton_types import Real, Whole


@triton.jit
def masses(
    Q: "Float[Tensor, 'b h n D']", K: "Float[Tensor, 'b g m D']", LSE: "Float[Tensor, 'b h n']",
    ENTROPY: "Float[Tensor, 'b h n'] | None", FACTOR: "Float[Tensor, 'b h n classes'] | None",
    SINK: "Float[Tensor, ' h'] | None", PAD: "Int[Tensor, 'b m'] | None", EDITED: "Int[Tensor, 'b h'] | None",
    ON: "Int[Tensor, 'b n'] | None", WINDOW: "Int[Tensor, 'b h'] | None", FIRST: "Int[Tensor, ' b'] | None",
    CLS: "Int[Tensor, 'b h m'] | None", BIAS: "Float[Tensor, 'b h LIVE'] | None",
    BOOST: "Float[Tensor, 'b h LIVE'] | None", CGAIN: "Float[Tensor, 'b h LIVE'] | None",
    LEAST: "Float[Tensor, 'b h LIVE'] | None", FREED: "Int[Tensor, 'b h'] | None", sqb: "Whole", sqh: "Whole",
    sqn: "Whole", skb: "Whole", skh: "Whole", skn: "Whole", scb: "Whole", sch: "Whole", n: "Whole", m: "Whole",
    H: "Whole", shift: "Whole", reach: "Whole", sink: "Whole", scale: "Real", cap: "Real", LIVE: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, HAS_CAP: tl.constexpr,
    HAS_REACH: tl.constexpr, UP: tl.constexpr, PREC: tl.constexpr,
) -> None:  # fmt: skip
    """Mass of class 0 and up to four classes in each row of the edited heads, and the factors that follow from them.

    Five accumulators of width D do not fit the registers; so several classes take this pass, then `weighted`.
    """
    NF: tl.constexpr = 5
    bh = tl.program_id(1)
    if EDITED is not None:  # noqa: SIM102  (decided when the kernel is compiled)
        if tl.load(EDITED + bh) != 1:
            return
    row0 = (tl.num_programs(0) - 1 - tl.program_id(0)) * BM
    b, h = bh // H, bh % H
    one = tl.full([], 1, tl.int64)
    kb = K + one * b * skb + one * (h // GROUP) * skh
    rows = row0 + tl.arange(0, BM)
    inside, at_row = rows < n, one * bh * n + rows
    q = tile(Q + one * b * sqb + one * h * sqh, row0, n, sqn, D, BD, BM, UP)
    WINDOWED: tl.constexpr = WINDOW is not None
    on = tl.load(ON + b * n + rows, mask=inside, other=1) if ON is not None else tl.full([BM], 1, tl.int32)
    low, high = key_range(row0, n, m, shift, reach, BM, BN, HAS_REACH)
    near, first, leap, gap = rows, 0, high, 0
    if WINDOWED:
        window, first = tl.load(WINDOW + bh), tl.load(FIRST + b) + sink
        near = tl.where(on != 0, tl.where(window > 0, window, 2147483647), 2147483647)
        leap, gap = hidden_gap(low, row0, shift, window, first, tl.min(on, 0), BN)
    learned = tl.load(SINK + h).to(tl.float32) * LOG2E if SINK is not None else float("-inf")
    most = tl.zeros([BM], tl.float32) + learned
    l0, t0 = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32)
    lk, tk = tl.zeros([BM, 4], tl.float32), tl.zeros([BM, 4], tl.float32)
    column = tl.arange(0, 4)[None, :]
    for at in range(low, high - gap, BN):
        n0 = at
        if WINDOWED:
            n0 = at + tl.where(at >= leap, gap, 0)
        cols = n0 + tl.arange(0, BN)
        s = scores(q, tl.trans(tile(kb, n0, m, skn, D, BD, BN, UP)), scale, cap, HAS_CAP, PREC)
        c = tl.load(CLS + b * scb + h * sch + cols, mask=cols < m, other=0)[None, :]
        if BIAS is not None or BOOST is not None:
            s = score_edits(s, c, on[:, None] != 0, BIAS, BOOST, 0, bh, LIVE)
        pad = tl.load(PAD + b * m + cols, mask=cols < m, other=0)[None, :] if PAD is not None else None
        ok = sees((rows + shift)[:, None], cols[None, :], m, reach, near[:, None], first, pad, HAS_REACH, WINDOWED)
        s = tl.where(ok, s, float("-inf"))
        new = tl.maximum(most, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        alpha = tl.exp2(most - base)
        rel = s - base[:, None]
        p = tl.exp2(rel)
        moved = tl.where(most == float("-inf"), 0.0, most - base)
        if ENTROPY is not None:
            e = p * tl.maximum(rel, -1000.0)
            t0 = alpha * (t0 + moved * l0) + tl.sum(tl.where(c == 0, e, 0.0), 1)
            tk = alpha[:, None] * (tk + moved[:, None] * lk)
        l0 = l0 * alpha + tl.sum(tl.where(c == 0, p, 0.0), 1)
        lk = lk * alpha[:, None]
        for i in tl.static_range(4):
            lk += tl.where(column == i, tl.sum(tl.where(c == i + 1, p, 0.0), 1)[:, None], 0.0)
            if ENTROPY is not None:
                tk += tl.where(column == i, tl.sum(tl.where(c == i + 1, e, 0.0), 1)[:, None], 0.0)
        most = new
    base = tl.where(most == float("-inf"), 0.0, most)
    total = l0 + tl.sum(lk, 1)
    if SINK is not None:
        total += tl.exp2(learned - base)
    inverse = tl.where(total > 0, 1.0 / tl.where(total > 0, total, 1.0), 0.0)
    tl.store(LSE + at_row, log_sum(base, total), mask=inside)
    f0, fk = class_factors(l0 * inverse, lk * inverse[:, None], on, CGAIN, LEAST, FREED, bh, LIVE, 4)
    tl.store(FACTOR + at_row * NF, f0, mask=inside)
    tl.store(FACTOR + at_row[:, None] * NF + 1 + column, fk, mask=inside[:, None])
    if ENTROPY is not None:
        h_ = entropy_of(f0, total, l0, t0) + tl.sum(entropy_of(fk, total[:, None], lk, tk), 1)
        tl.store(ENTROPY + at_row, h_, mask=inside)
