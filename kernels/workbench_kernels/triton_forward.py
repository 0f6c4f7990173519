"""The forward kernel: output, log-sum-exp and entropy of a block of rows, online, with one or two accumulators.

Classes: the keys of class 1 have an accumulator of their own, never "all minus the others", which cancels (measured:
1e-6 against 2e-2). It is touched only in key blocks that hold such a key, so that a few sinks or a span stay cheap.
"""

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

    from workbench_kernels.triton_types import Block, Pointers, Real, Whole


@triton.jit
def _step(
    n0: "Whole", q: "Float[Block, 'BM BD']", kb: "Pointers", vb: "Pointers", most: "Float[Block, ' BM']",
    l0: "Float[Block, ' BM']", t0: "Float[Block, ' BM']", a0: "Float[Block, 'BM BD']", most1: "Float[Block, ' BM']",
    l1: "Float[Block, ' BM']", t1: "Float[Block, ' BM']", a1: "Float[Block, 'BM BD']", pos: "Int[Block, ' BM']",
    on: "Int[Block, ' BM']", near: "Int[Block, ' BM']", first: "Whole", bh: "Whole", m: "Whole", sk: "Whole",
    sv: "Whole", shift: "Whole", reach: "Whole", scale: "Real", cap: "Real", pad: "Pointers | None",
    cls: "Pointers | None", bias: "Float[Tensor, 'b h LIVE'] | None", boost: "Float[Tensor, 'b h LIVE'] | None",
    MASKED: tl.constexpr, TWO: tl.constexpr, ENTROPY: tl.constexpr, LIVE: tl.constexpr, D: tl.constexpr,
    BD: tl.constexpr, BN: tl.constexpr, HAS_CAP: tl.constexpr, HAS_REACH: tl.constexpr, HAS_WINDOW: tl.constexpr,
    UP: tl.constexpr, PREC: tl.constexpr,
) -> "tuple[Block, Block, Block, Block, Block, Block, Block, Block]":  # fmt: skip
    """One block of keys more."""
    cols = n0 + tl.arange(0, BN)
    kt = tl.trans(tile(kb, n0, m, sk, D, BD, BN, UP))
    s = scores(q, kt, scale, cap, HAS_CAP, PREC)
    if cls is not None:
        c = tl.load(cls + cols, mask=cols < m, other=0)
        if bias is not None or boost is not None:
            s = score_edits(s, c[None, :], on[:, None] != 0, bias, boost, 0, bh, LIVE)
    if MASKED:
        p_ = tl.load(pad + cols, mask=cols < m, other=0)[None, :] if pad is not None else None
        seen = sees(pos[:, None], cols[None, :], m, reach, near[:, None], first, p_, HAS_REACH, HAS_WINDOW)
        s = tl.where(seen, s, float("-inf"))
    new = tl.maximum(most, tl.max(s, 1))
    base = tl.where(new == float("-inf"), 0.0, new)
    alpha = tl.exp2(most - base)
    rel = s - base[:, None]
    p = tl.exp2(rel)
    if ENTROPY:
        e = p * tl.maximum(rel, -1000.0)
        moved = tl.where(most == float("-inf"), 0.0, most - base)
    v = tile(vb, n0, m, sv, D, BD, BN, UP)
    if TWO:
        mine = c[None, :] == 1
        p0 = tl.where(mine, 0.0, p)
        if tl.max(tl.where(c == 1, 1, 0), 0) > 0:
            p1 = tl.where(mine, p, 0.0)
            alpha1 = tl.exp2(most1 - base)
            if ENTROPY:
                moved1 = tl.where(most1 == float("-inf"), 0.0, most1 - base)
                t1 = alpha1 * (t1 + moved1 * l1) + tl.sum(tl.where(mine, e, 0.0), 1)
            l1 = l1 * alpha1 + tl.sum(p1, 1)
            a1 = a1 * alpha1[:, None] + tl.dot(p1.to(v.dtype), v, input_precision=PREC)
            most1 = new
    else:
        p0 = p
    if ENTROPY:
        e0 = tl.where(mine, 0.0, e) if TWO else e
        t0 = alpha * (t0 + moved * l0) + tl.sum(e0, 1)
    l0 = l0 * alpha + tl.sum(p0, 1)
    a0 = a0 * alpha[:, None] + tl.dot(p0.to(v.dtype), v, input_precision=PREC)
    return new, l0, t0, a0, most1, l1, t1, a1


@triton.jit
def forward(
    Q: "Float[Tensor, 'b h n D']", K: "Float[Tensor, 'b g m D']", V: "Float[Tensor, 'b g m D']",
    OUT: "Float[Tensor, 'b h n D']", LSE: "Float[Tensor, 'b h n']", ENTROPY: "Float[Tensor, 'b h n'] | None",
    FACTOR: "Float[Tensor, 'b h n classes'] | None", SINK: "Float[Tensor, ' h'] | None",
    PAD: "Int[Tensor, 'b m'] | None", EDITED: "Int[Tensor, 'b h'] | None", ON: "Int[Tensor, 'b n'] | None",
    WINDOW: "Int[Tensor, 'b h'] | None", FIRST: "Int[Tensor, ' b'] | None", CLS: "Int[Tensor, 'b h m'] | None",
    BIAS: "Float[Tensor, 'b h LIVE'] | None", BOOST: "Float[Tensor, 'b h LIVE'] | None",
    CGAIN: "Float[Tensor, 'b h LIVE'] | None", LEAST: "Float[Tensor, 'b h LIVE'] | None",
    FREED: "Int[Tensor, 'b h'] | None", GAIN: "Float[Tensor, 'b h'] | None", sqb: "Whole", sqh: "Whole", sqn: "Whole",
    skb: "Whole", skh: "Whole", skn: "Whole", svb: "Whole", svh: "Whole", svn: "Whole", scb: "Whole", sch: "Whole",
    n: "Whole", m: "Whole", H: "Whole", shift: "Whole", reach: "Whole", sink: "Whole", scale: "Real", cap: "Real",
    EDIT: tl.constexpr, TWO: tl.constexpr, LIVE: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, HAS_CAP: tl.constexpr, HAS_REACH: tl.constexpr, UP: tl.constexpr,
    PREC: tl.constexpr,
) -> None:  # fmt: skip
    """BM query rows of one head of one batch row; the longest rows first. Absent tensors are None.

    EDITED [b·h] says which heads take the launch with EDIT = 1, the others take the one with EDIT = 0: no host sync.
    """
    bh = tl.program_id(1)
    if EDITED is not None:  # noqa: SIM102  (decided when the kernel is compiled)
        if tl.load(EDITED + bh) != EDIT:
            return
    row0 = (tl.num_programs(0) - 1 - tl.program_id(0)) * BM
    b, h = bh // H, bh % H
    one = tl.full([], 1, tl.int64)
    kb, vb = K + one * b * skb + one * (h // GROUP) * skh, V + one * b * svb + one * (h // GROUP) * svh
    rows = row0 + tl.arange(0, BM)
    pos = rows + shift
    q = tile(Q + one * b * sqb + one * h * sqh, row0, n, sqn, D, BD, BM, UP)
    cls = CLS + b * scb + h * sch if CLS is not None else None
    pad = PAD + b * m if PAD is not None else None
    WINDOWED: tl.constexpr = WINDOW is not None
    ENT: tl.constexpr = ENTROPY is not None
    on = tl.load(ON + b * n + rows, mask=rows < n, other=1) if ON is not None else tl.full([BM], 1, tl.int32)
    low, high = key_range(row0, n, m, shift, reach, BM, BN, HAS_REACH)
    near, first, leap, gap = rows, 0, high, 0
    if WINDOWED:
        window, first = tl.load(WINDOW + bh), tl.load(FIRST + b) + sink
        near = tl.where(on != 0, tl.where(window > 0, window, 2147483647), 2147483647)
        leap, gap = hidden_gap(low, row0, shift, window, first, tl.min(on, 0), BN)

    learned = tl.load(SINK + h).to(tl.float32) * LOG2E if SINK is not None else float("-inf")
    most = tl.zeros([BM], tl.float32) + learned
    l0, t0, a0 = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32), tl.zeros([BM, BD], tl.float32)
    most1 = tl.full([BM], float("-inf"), tl.float32)
    l1, t1 = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32)
    a1 = tl.zeros([BM, BD], tl.float32) if TWO else l1
    start = low
    if pad is None and not HAS_REACH and not WINDOWED:  # keys that every row sees need no mask
        start = tl.maximum(0, tl.minimum(m, row0 + shift + 1)) // BN * BN
        for n0 in range(0, start, BN):
            most, l0, t0, a0, most1, l1, t1, a1 = _step(
                n0, q, kb, vb, most, l0, t0, a0, most1, l1, t1, a1, pos, on, near, first, bh,
                m, skn, svn, shift, reach, scale, cap, pad, cls, BIAS, BOOST,
                False, TWO, ENT, LIVE, D, BD, BN, HAS_CAP, HAS_REACH, WINDOWED, UP, PREC,
            )  # fmt: skip
    for at in range(start, high - gap, BN):
        n0 = at
        if WINDOWED:
            n0 = at + tl.where(at >= leap, gap, 0)
        most, l0, t0, a0, most1, l1, t1, a1 = _step(
            n0, q, kb, vb, most, l0, t0, a0, most1, l1, t1, a1, pos, on, near, first, bh,
            m, skn, svn, shift, reach, scale, cap, pad, cls, BIAS, BOOST,
            True, TWO, ENT, LIVE, D, BD, BN, HAS_CAP, HAS_REACH, WINDOWED, UP, PREC,
        )  # fmt: skip

    base = tl.where(most == float("-inf"), 0.0, most)
    total = l0
    if TWO:
        alpha1 = tl.exp2(most1 - base)
        moved1 = tl.where(most1 == float("-inf"), 0.0, most1 - base)
        t1 = alpha1 * (t1 + moved1 * l1)
        l1 = l1 * alpha1
        total = total + l1
    if SINK is not None:
        total = total + tl.exp2(learned - base)
    inverse = tl.where(total > 0, 1.0 / tl.where(total > 0, total, 1.0), 0.0)
    inside, at_row = rows < n, one * bh * n + rows
    if LSE is not None:
        tl.store(LSE + at_row, log_sum(base, total), mask=inside)
    if TWO:
        f0, fk = class_factors(l0 * inverse, (l1 * inverse)[:, None], on, CGAIN, LEAST, FREED, bh, LIVE, 1)
        f1 = tl.sum(fk, 1)
        a0 = a0 * f0[:, None] + a1 * (f1 * alpha1)[:, None]
        if FACTOR is not None:
            tl.store(FACTOR + at_row * 2, f0, mask=inside)
            tl.store(FACTOR + at_row * 2 + 1, f1, mask=inside)
        if ENT:
            h_ = entropy_of(f0, total, l0, t0) + entropy_of(f1, total, l1, t1)
            tl.store(ENTROPY + at_row, h_, mask=inside)
    elif ENT:
        tl.store(ENTROPY + at_row, entropy_of(l0 * 0.0 + 1.0, total, l0, t0), mask=inside)
    if GAIN is not None:
        inverse = inverse * tl.where(on != 0, tl.load(GAIN + bh), 1.0)
    d = tl.arange(0, BD)
    place = one * bh * n * D + one * row0 * D + tl.arange(0, BM)[:, None] * D + d[None, :]
    tl.store(OUT + place, (a0 * inverse[:, None]).to(OUT.dtype.element_ty), mask=inside[:, None] & (d < D)[None, :])
