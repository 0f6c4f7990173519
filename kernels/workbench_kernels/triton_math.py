"""Pieces that every Triton kernel is made of: tiles, scores, who sees whom, class factors.

Scores and maxima are kept in base 2 (score · log2 e), as exp2 is what the hardware has; what leaves a kernel is natural.
Traps (measured, triton 3.9): tl.dot of bfloat16 is silently wrong in the interpreter, hence UP; a logical operator
between a tensor and a loaded scalar fails there, hence tl.where of integers; float32 dots default to TF32, hence PREC.
"""

# what Triton compiles is not Python's typing
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportOptionalOperand=false
# pyright: reportPossiblyUnboundVariable=false, reportReturnType=false, reportAttributeAccessIssue=false
from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:  # for readers; Triton looks up names that are not quoted
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from workbench_kernels.triton_types import Block, Pointers, Real, Whole

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def tile(
    base: "Pointers", start: "Whole", n: "Whole", stride: "Whole", D: tl.constexpr, BD: tl.constexpr,
    BLOCK: tl.constexpr, UP: tl.constexpr,
) -> "Float[Block, 'BLOCK BD']":  # fmt: skip
    """Rows start… of a matrix whose last stride is 1; zero beyond n and D. 64 bits for the start only."""
    i, d = tl.arange(0, BLOCK), tl.arange(0, BD)
    inside = (start + i < n)[:, None]
    if D != BD:
        inside = inside & (d < D)[None, :]
    one = tl.full([], 1, tl.int64)
    x = tl.load(base + one * start * stride + i[:, None] * stride + d[None, :], mask=inside, other=0.0)
    if UP:
        x = x.to(tl.float32)
    return x


@triton.jit
def scores(
    q: "Float[Block, 'i BD']", kt: "Float[Block, 'BD j']", scale: "Real", cap: "Real", HAS_CAP: tl.constexpr,
    PREC: tl.constexpr,
) -> "Float[Block, 'i j']":  # fmt: skip
    """Scaled and soft-capped scores in base 2."""
    s = tl.dot(q, kt, input_precision=PREC)
    if HAS_CAP:
        x = s * (scale / cap)
        e = tl.exp2(tl.abs(x) * (-2.0 * LOG2E))  # tanh, without the library of the device
        t = (1.0 - e) / (1.0 + e)
        s = tl.where(x < 0, -t, t) * (cap * LOG2E)
    else:
        s = s * (scale * LOG2E)
    return s


@triton.jit
def score_edits(
    s: "Float[Block, 'i j']", cls: "Int[Block, '*i j']", on: "Bool[Block, 'i *j']",
    bias: "Float[Tensor, 'b h LIVE'] | None", boost: "Float[Tensor, 'b h LIVE'] | None", b_or_1: "Whole", h: "Whole",
    LIVE: tl.constexpr,
) -> "Float[Block, 'i j']":  # fmt: skip
    """s + boost·|s| + bias of each key's class, in the rows that the edits hold in. on and cls broadcast to s."""
    place = (b_or_1 + h) * LIVE + cls - 1
    live = (cls > 0) & (cls <= LIVE)
    if boost is not None:
        s += tl.where(on, tl.load(boost + place, mask=live, other=0.0), 0.0) * tl.abs(s)
    if bias is not None:
        s += tl.where(on, tl.load(bias + place, mask=live, other=0.0) * LOG2E, 0.0)
    return s


@triton.jit
def sees(
    pos: "Int[Block, 'i 1']", cols: "Int[Block, '1 j']", m: "Whole", reach: "Whole", near: "Int[Block, 'i 1']",
    first: "Whole", pad: "Int[Block, '1 j'] | None", HAS_REACH: tl.constexpr, HAS_WINDOW: tl.constexpr,
) -> "Bool[Block, 'i j']":  # fmt: skip
    """Whether positions (in columns of the key axis) see keys; pos, near and cols, pad broadcast to the result.

    near: the head's own window in each row (a great number where it has none); first: keys below it are always near.
    """
    ok = (cols <= pos) & (cols < m)
    if HAS_REACH:
        ok = ok & (pos - cols < reach)
    if HAS_WINDOW:
        ok = ok & ((pos - cols < near) | (cols < first))
    if pad is not None:
        ok = ok & (pad != 0)
    return ok


@triton.jit
def class_factors(
    m0: "Float[Block, ' rows']", mk: "Float[Block, 'rows NC']", on: "Int[Block, ' rows']",
    gain: "Float[Tensor, 'b h LIVE']", least: "Float[Tensor, 'b h LIVE'] | None", freed: "Int[Tensor, 'b h'] | None",
    bh: "Whole", LIVE: tl.constexpr, NC: tl.constexpr,
) -> "tuple[Float[Block, ' rows'], Float[Block, 'rows NC']]":  # fmt: skip
    """What class gains multiply the weights of a row by: f0 [rows] for the other keys, fk [rows, NC] for the classes.

    m0 and mk are the masses before. A row without mass to give to (rule 1) or to normalise (rule 2) is left as it was;
    rule 1 takes no more than the others have.
    """
    c = tl.arange(0, NC)
    g = tl.load(gain + bh * LIVE + c, mask=c < LIVE, other=1.0)[None, :] + mk * 0.0
    if least is not None:
        floor = tl.load(least + bh * LIVE + c, mask=c < LIVE, other=0.0)[None, :]
        g = tl.where(mk > floor, g, 1.0)
    g = tl.where(on[:, None] != 0, g, 1.0)
    rule = tl.load(freed + bh) if freed is not None else 0
    missing = tl.sum((1.0 - g) * mk, 1)
    before, after = m0 + tl.sum(mk, 1), m0 + tl.sum(g * mk, 1)
    to_others = tl.where(m0 > 0, tl.maximum(1.0 + missing / tl.where(m0 > 0, m0, 1.0), 0.0), 1.0)
    to_all = tl.where(after > 0, before / tl.where(after > 0, after, 1.0), 1.0)
    scaled = tl.where((after > 0)[:, None], g * to_all[:, None], 1.0)
    f0 = tl.where(rule == 1, to_others, tl.where(rule == 2, to_all, 1.0))
    fk = tl.where(rule == 1, tl.where((m0 > 0)[:, None], g, 1.0), tl.where(rule == 2, scaled, g))
    return f0, fk


@triton.jit
def log_sum(base: "Float[Block, ' rows']", total: "Float[Block, ' rows']") -> "Float[Block, ' rows']":
    """Natural log-sum-exp of a row from its maximum in base 2 and its sum; minus infinity where it saw nothing."""
    return tl.where(total > 0, base * LN2 + tl.log(tl.where(total > 0, total, 1.0)), float("-inf"))


@triton.jit
def entropy_of(
    f: "Float[Block, '*rows']", total: "Float[Block, '*rows']", mass: "Float[Block, '*rows']",
    spread: "Float[Block, '*rows']",
) -> "Float[Block, '*rows']":  # fmt: skip
    """Entropy of the weights f·e / total of one class, from Σe (mass) and Σe·log2 e (spread)."""
    safe = tl.where((f > 0) & (total > 0), f / tl.where(total > 0, total, 1.0), 1.0)
    h = -safe * (tl.log(safe) * mass + LN2 * spread)
    return tl.where((f > 0) & (total > 0), h, 0.0)


@triton.jit
def key_range(
    row0: "Whole", n: "Whole", m: "Whole", shift: "Whole", reach: "Whole", BM: tl.constexpr, BN: tl.constexpr,
    HAS_REACH: tl.constexpr,
) -> "tuple[Whole, Whole]":  # fmt: skip
    """Keys that a block of rows can see: low is a multiple of the block."""
    high = tl.minimum(m, tl.minimum(n, row0 + BM) + shift)
    low = tl.maximum(0, row0 + shift - reach + 1) // BN * BN if HAS_REACH else 0
    return low, high


@triton.jit
def hidden_gap(
    low: "Whole", row0: "Whole", shift: "Whole", window: "Whole", first: "Whole", every: "Whole", BN: tl.constexpr,
) -> "tuple[Whole, Whole]":  # fmt: skip
    """Blocks between a head's sinks and its recent keys: where they start, and how many keys to leap over."""
    start = tl.maximum(low, (first + BN - 1) // BN * BN)
    recent = tl.maximum(0, row0 + shift - window + 1) // BN * BN
    gap = tl.where(window > 0, tl.maximum(0, recent - start), 0)
    return start, tl.where(every != 0, gap, 0)
