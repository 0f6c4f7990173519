"""Second passes over the pattern, made again from the log-sum-exp: received attention by key, and weights × matrix.

One program owns its outputs, so nothing needs an atomic and results are the same every time.
"""

# what Triton compiles is not Python's typing
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportOptionalOperand=false
# pyright: reportPossiblyUnboundVariable=false, reportReturnType=false, reportAttributeAccessIssue=false
from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from workbench_kernels.triton_math import LOG2E, hidden_gap, key_range, score_edits, scores, sees, tile

if TYPE_CHECKING:  # for readers; Triton looks up names that are not quoted
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from workbench_kernels.triton_types import Block, Real, Whole


@triton.jit
def factor_of(
    FACTOR: "Float[Tensor, 'b h n NF']", at_row: "Int[Block, ' rows']", inside: "Bool[Block, ' rows']",
    cls: "Int[Block, '*i_j']", NF: tl.constexpr, ROWS_FIRST: tl.constexpr,
) -> "Float[Block, 'i j']":  # fmt: skip
    """What class gains multiply weights by: a row's factor of the key's class, NF factors a row."""
    f = 1.0
    for c in tl.static_range(NF):
        x = tl.load(FACTOR + at_row * NF + c, mask=inside, other=1.0)
        x = x[:, None] if ROWS_FIRST else x[None, :]
        f = tl.where(cls == c, x, f)
    return f


@triton.jit
def received(
    Q: "Float[Tensor, 'b h n D']", K: "Float[Tensor, 'b g m D']", LSE: "Float[Tensor, 'b h n']",
    FACTOR: "Float[Tensor, 'b h n classes'] | None", OUT: "Float[Tensor, 'b h m']", PAD: "Int[Tensor, 'b m'] | None",
    QUERIES: "Int[Tensor, 'b n'] | None", EDITED: "Int[Tensor, 'b h'] | None", ON: "Int[Tensor, 'b n'] | None",
    WINDOW: "Int[Tensor, 'b h'] | None", FIRST: "Int[Tensor, ' b'] | None", CLS: "Int[Tensor, 'b h m'] | None",
    BIAS: "Float[Tensor, 'b h LIVE'] | None", BOOST: "Float[Tensor, 'b h LIVE'] | None", sqb: "Whole", sqh: "Whole",
    sqn: "Whole", skb: "Whole", skh: "Whole", skn: "Whole", scb: "Whole", sch: "Whole", n: "Whole", m: "Whole",
    H: "Whole", shift: "Whole", reach: "Whole", sink: "Whole", scale: "Real", cap: "Real", EDIT: tl.constexpr,
    NF: tl.constexpr, LIVE: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, HAS_CAP: tl.constexpr, HAS_REACH: tl.constexpr, UP: tl.constexpr, PREC: tl.constexpr,
) -> None:  # fmt: skip
    """Sum over the valid queries (QUERIES) of the weights that BN keys of one head get; keys are the tile's rows."""
    bh = tl.program_id(1)
    if EDITED is not None:  # noqa: SIM102  (decided when the kernel is compiled)
        if tl.load(EDITED + bh) != EDIT:
            return
    col0 = tl.program_id(0) * BN
    b, h = bh // H, bh % H
    one = tl.full([], 1, tl.int64)
    cols = col0 + tl.arange(0, BN)
    k = tile(K + one * b * skb + one * (h // GROUP) * skh, col0, m, skn, D, BD, BN, UP)
    qb = Q + one * b * sqb + one * h * sqh
    WINDOWED: tl.constexpr = WINDOW is not None
    pad = tl.load(PAD + b * m + cols, mask=cols < m, other=0)[:, None] if PAD is not None else None
    c = tl.load(CLS + b * scb + h * sch + cols, mask=cols < m, other=0)[:, None] if CLS is not None else None
    first, high = 0, n
    if HAS_REACH:
        high = tl.minimum(n, col0 + BN - 1 + reach - shift)
    if WINDOWED:
        window, first = tl.load(WINDOW + bh), tl.load(FIRST + b) + sink
        if ON is None:  # edits hold in every row: a key that is no sink is seen by the next `window` rows only
            last = tl.minimum(high, col0 + BN - 1 + window - shift)
            high = tl.where(window > 0, tl.where(first > col0, high, last), high)
    acc = tl.zeros([BN], tl.float32)
    for m0 in range(tl.maximum(0, col0 - shift) // BM * BM, high, BM):
        rows = m0 + tl.arange(0, BM)
        inside = rows < n
        q = tile(qb, m0, n, sqn, D, BD, BM, UP)
        at_row = one * bh * n + rows
        lse = tl.load(LSE + at_row, mask=inside, other=0.0) * LOG2E
        s = scores(k, tl.trans(q), scale, cap, HAS_CAP, PREC)
        on = tl.load(ON + b * n + rows, mask=inside, other=1) if ON is not None else tl.full([BM], 1, tl.int32)
        if BIAS is not None or BOOST is not None:
            s = score_edits(s, c, on[None, :] != 0, BIAS, BOOST, 0, bh, LIVE)
        near = rows
        if WINDOWED:
            near = tl.where(on != 0, tl.where(window > 0, window, 2147483647), 2147483647)
        ok = sees((rows + shift)[None, :], cols[:, None], m, reach, near[None, :], first, pad, HAS_REACH, WINDOWED)
        ok = ok & inside[None, :]
        if QUERIES is not None:
            ok = ok & (tl.load(QUERIES + b * n + rows, mask=inside, other=0) != 0)[None, :]
        w = tl.where(ok, tl.exp2(s - lse[None, :]), 0.0)
        if FACTOR is not None:
            w = w * factor_of(FACTOR, at_row, inside, c, NF, False)
        acc += tl.sum(w, 1)
    tl.store(OUT + one * bh * m + cols, acc, mask=cols < m)


@triton.jit
def weighted(
    Q: "Float[Tensor, 'b h n D']", K: "Float[Tensor, 'b g m D']", X: "Float[Tensor, 'b g m E']",
    LSE: "Float[Tensor, 'b h n']", FACTOR: "Float[Tensor, 'b h n classes'] | None", OUT: "Float[Tensor, 'b h n E']",
    PAD: "Int[Tensor, 'b m'] | None", EDITED: "Int[Tensor, 'b h'] | None", ON: "Int[Tensor, 'b n'] | None",
    WINDOW: "Int[Tensor, 'b h'] | None", FIRST: "Int[Tensor, ' b'] | None", CLS: "Int[Tensor, 'b h m'] | None",
    BIAS: "Float[Tensor, 'b h LIVE'] | None", BOOST: "Float[Tensor, 'b h LIVE'] | None",
    GAIN: "Float[Tensor, 'b h'] | None", sqb: "Whole", sqh: "Whole", sqn: "Whole", skb: "Whole", skh: "Whole",
    skn: "Whole", sxb: "Whole", sxh: "Whole", sxn: "Whole", scb: "Whole", sch: "Whole", n: "Whole", m: "Whole",
    H: "Whole", shift: "Whole", reach: "Whole", sink: "Whole", scale: "Real", cap: "Real", EDIT: tl.constexpr,
    NF: tl.constexpr, LIVE: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, E: tl.constexpr,
    BE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, HAS_CAP: tl.constexpr, HAS_REACH: tl.constexpr,
    UP: tl.constexpr, PREC: tl.constexpr,
) -> None:  # fmt: skip
    """Pattern times a matrix X [b, g, m, E]: indicators of spans, or the values where several classes have gains."""
    bh = tl.program_id(1)
    if EDITED is not None:  # noqa: SIM102  (decided when the kernel is compiled)
        if tl.load(EDITED + bh) != EDIT:
            return
    row0 = (tl.num_programs(0) - 1 - tl.program_id(0)) * BM
    b, h = bh // H, bh % H
    one = tl.full([], 1, tl.int64)
    kb, xb = K + one * b * skb + one * (h // GROUP) * skh, X + one * b * sxb + one * (h // GROUP) * sxh
    rows = row0 + tl.arange(0, BM)
    inside, at_row = rows < n, one * bh * n + rows
    q = tile(Q + one * b * sqb + one * h * sqh, row0, n, sqn, D, BD, BM, UP)
    lse = tl.load(LSE + at_row, mask=inside, other=0.0) * LOG2E
    WINDOWED: tl.constexpr = WINDOW is not None
    on = tl.load(ON + b * n + rows, mask=inside, other=1) if ON is not None else tl.full([BM], 1, tl.int32)
    low, high = key_range(row0, n, m, shift, reach, BM, BN, HAS_REACH)
    near, first, leap, gap = rows, 0, high, 0
    if WINDOWED:
        window, first = tl.load(WINDOW + bh), tl.load(FIRST + b) + sink
        near = tl.where(on != 0, tl.where(window > 0, window, 2147483647), 2147483647)
        leap, gap = hidden_gap(low, row0, shift, window, first, tl.min(on, 0), BN)
    acc = tl.zeros([BM, BE], tl.float32)
    for at in range(low, high - gap, BN):
        n0 = at
        if WINDOWED:
            n0 = at + tl.where(at >= leap, gap, 0)
        cols = n0 + tl.arange(0, BN)
        s = scores(q, tl.trans(tile(kb, n0, m, skn, D, BD, BN, UP)), scale, cap, HAS_CAP, PREC)
        c = tl.load(CLS + b * scb + h * sch + cols, mask=cols < m, other=0)[None, :] if CLS is not None else None
        if BIAS is not None or BOOST is not None:
            s = score_edits(s, c, on[:, None] != 0, BIAS, BOOST, 0, bh, LIVE)
        pad = tl.load(PAD + b * m + cols, mask=cols < m, other=0)[None, :] if PAD is not None else None
        ok = sees((rows + shift)[:, None], cols[None, :], m, reach, near[:, None], first, pad, HAS_REACH, WINDOWED)
        w = tl.where(ok, tl.exp2(s - lse[:, None]), 0.0)
        if FACTOR is not None:
            w = w * factor_of(FACTOR, at_row, inside, c, NF, True)
        x = tile(xb, n0, m, sxn, E, BE, BN, UP)
        acc += tl.dot(w.to(x.dtype), x, input_precision=PREC)
    if GAIN is not None:
        acc = acc * tl.where(on != 0, tl.load(GAIN + bh), 1.0)[:, None]
    d = tl.arange(0, BE)
    place = one * bh * n * E + one * row0 * E + tl.arange(0, BM)[:, None] * E + d[None, :]
    tl.store(OUT + place, acc.to(OUT.dtype.element_ty), mask=inside[:, None] & (d < E)[None, :])
