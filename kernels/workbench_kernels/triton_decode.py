"""Few queries, many keys: the keys are split over programs, and what they give is merged by log-sum-exp.

A dot has at least 16 rows, so the query heads of a kv head, its queries and the key classes are the rows of one tile:
every class has its own accumulator at no cost.
"""

# what Triton compiles is not Python's typing
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportOptionalOperand=false
# pyright: reportPossiblyUnboundVariable=false, reportReturnType=false, reportAttributeAccessIssue=false
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from workbench_kernels import triton_launch
from workbench_kernels.triton_math import LOG2E, class_factors, log_sum, score_edits, scores, sees, tile
from workbench_kernels.types import CLASSES, Reductions

if TYPE_CHECKING:  # for readers; Triton looks up names that are not quoted
    from jaxtyping import Float, Int
    from torch import Tensor

    from workbench_kernels.triton_call import Call
    from workbench_kernels.triton_types import Real, Whole

ROWS = 64
"""Most rows of a tile: heads of a kv head × queries × classes."""
FEWEST = 4
"""Blocks of keys below which splitting is of no use."""


@triton.jit
def split(
    Q: "Float[Tensor, 'b h n D']", K: "Float[Tensor, 'b g m D']", V: "Float[Tensor, 'b g m D']",
    PART: "Float[Tensor, 'b g parts rows D']", MOST: "Float[Tensor, 'b g parts rows']",
    SUM: "Float[Tensor, 'b g parts rows']", PAD: "Int[Tensor, 'b m'] | None", ON: "Int[Tensor, 'b n'] | None",
    WINDOW: "Int[Tensor, 'b h'] | None", FIRST: "Int[Tensor, ' b'] | None", CLS: "Int[Tensor, 'b h m'] | None",
    BIAS: "Float[Tensor, 'b h LIVE'] | None", BOOST: "Float[Tensor, 'b h LIVE'] | None", sqb: "Whole", sqh: "Whole",
    sqn: "Whole", skb: "Whole", skh: "Whole", skn: "Whole", svb: "Whole", svh: "Whole", svn: "Whole", scb: "Whole",
    sch: "Whole", n: "Whole", m: "Whole", H: "Whole", shift: "Whole", reach: "Whole", sink: "Whole", scale: "Real",
    cap: "Real", low: "Whole", high: "Whole", chunk: "Whole", ROWS_: tl.constexpr, PER: tl.constexpr, NC: tl.constexpr,
    LIVE: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    HAS_CAP: tl.constexpr, HAS_REACH: tl.constexpr, UP: tl.constexpr, PREC: tl.constexpr,
) -> None:  # fmt: skip
    """Keys low + chunk · i … of one kv head: unnormalised output, maximum and sum for each row (class, head, query)."""
    part, bg = tl.program_id(0), tl.program_id(1)
    groups = H // GROUP
    b, g = bg // groups, bg % groups
    one = tl.full([], 1, tl.int64)
    r, d = tl.arange(0, BM), tl.arange(0, BD)
    head, query, mine = g * GROUP + (r % PER) // n, r % n, r // PER
    real = r < ROWS_
    place = Q + one * b * sqb + head[:, None] * sqh + query[:, None] * sqn + d[None, :]
    q = tl.load(place, mask=real[:, None] & (d < D)[None, :], other=0.0)
    if UP:
        q = q.to(tl.float32)
    kb, vb = K + one * b * skb + one * g * skh, V + one * b * svb + one * g * svh
    on = tl.load(ON + b * n + query, mask=real, other=1) if ON is not None else tl.full([BM], 1, tl.int32)
    WINDOWED: tl.constexpr = WINDOW is not None
    near, first = r, 0
    if WINDOWED:
        window, first = tl.load(WINDOW + b * H + head, mask=real, other=0), tl.load(FIRST + b) + sink
        near = tl.where(on != 0, tl.where(window > 0, window, 2147483647), 2147483647)
    most, total = tl.full([BM], float("-inf"), tl.float32), tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, BD], tl.float32)
    start = low + part * chunk
    for n0 in range(start, tl.minimum(high, start + chunk), BN):
        cols = n0 + tl.arange(0, BN)
        s = scores(q, tl.trans(tile(kb, n0, m, skn, D, BD, BN, UP)), scale, cap, HAS_CAP, PREC)
        pad = tl.load(PAD + b * m + cols, mask=cols < m, other=0)[None, :] if PAD is not None else None
        pos = (query + shift)[:, None]
        ok = sees(pos, cols[None, :], m, reach, near[:, None], first, pad, HAS_REACH, WINDOWED)
        ok = ok & (cols < high)[None, :] & (cols < start + chunk)[None, :]
        if CLS is not None:
            inside = real[:, None] & (cols < m)[None, :]
            c = tl.load(CLS + b * scb + head[:, None] * sch + cols[None, :], mask=inside, other=0)
            if NC > 1:
                ok = ok & (c == mine[:, None])
            if BIAS is not None or BOOST is not None:
                s = score_edits(s, c, on[:, None] != 0, BIAS, BOOST, b * H, head[:, None], LIVE)
        s = tl.where(ok, s, float("-inf"))
        new = tl.maximum(most, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        alpha, p = tl.exp2(most - base), tl.exp2(s - base[:, None])
        v = tile(vb, n0, m, svn, D, BD, BN, UP)
        acc = acc * alpha[:, None] + tl.dot(p.to(v.dtype), v, input_precision=PREC)
        total = total * alpha + tl.sum(p, 1)
        most = new
    at = (one * bg * tl.num_programs(0) + part) * ROWS_ + r
    tl.store(PART + at[:, None] * D + d[None, :], acc, mask=real[:, None] & (d < D)[None, :])
    tl.store(MOST + at, most, mask=real)
    tl.store(SUM + at, total, mask=real)


@triton.jit
def merge(
    PART: "Float[Tensor, 'b g parts rows D']", MOST: "Float[Tensor, 'b g parts rows']",
    SUM: "Float[Tensor, 'b g parts rows']", OUT: "Float[Tensor, 'b h n D']", LSE: "Float[Tensor, 'b h n']",
    FACTOR: "Float[Tensor, 'b h n classes'] | None", SINK: "Float[Tensor, ' h'] | None",
    ON: "Int[Tensor, 'b n'] | None", CGAIN: "Float[Tensor, 'b h LIVE'] | None",
    LEAST: "Float[Tensor, 'b h LIVE'] | None", FREED: "Int[Tensor, 'b h'] | None", GAIN: "Float[Tensor, 'b h'] | None",
    n: "Whole", H: "Whole", parts: "Whole", ROWS_: tl.constexpr, PER: tl.constexpr, NC: tl.constexpr,
    LIVE: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, SPLITS: tl.constexpr,
) -> None:  # fmt: skip
    """One query of one head: splits and classes put together."""
    query, bh = tl.program_id(0), tl.program_id(1)
    b, h = bh // H, bh % H
    one = tl.full([], 1, tl.int64)
    i, d = tl.arange(0, SPLITS), tl.arange(0, BD)
    at = ((one * b * (H // GROUP) + h // GROUP) * parts + i) * ROWS_ + (h % GROUP) * n + query
    here = i < parts
    learned = tl.load(SINK + h).to(tl.float32) * LOG2E if SINK is not None else float("-inf")
    most = tl.zeros([1], tl.float32) + learned
    for c in tl.static_range(NC):
        most = tl.maximum(most, tl.max(tl.load(MOST + at + c * PER, mask=here, other=float("-inf")), 0))
    base = tl.where(most == float("-inf"), 0.0, most)
    NK: tl.constexpr = 4 if NC > 2 else 1
    column = tl.arange(0, NK)[None, :]
    l0, lk = tl.zeros([1], tl.float32), tl.zeros([1, NK], tl.float32)
    for c in tl.static_range(NC):
        scale = tl.exp2(tl.load(MOST + at + c * PER, mask=here, other=float("-inf")) - base)
        mass = tl.sum(scale * tl.load(SUM + at + c * PER, mask=here, other=0.0), 0)
        if c == 0:
            l0 += mass
        else:
            lk += tl.where(column == c - 1, mass, 0.0)
    total = l0 + tl.sum(lk, 1)
    if SINK is not None:
        total += tl.exp2(learned - base)
    inverse = tl.where(total > 0, 1.0 / tl.where(total > 0, total, 1.0), 0.0)
    place = one * bh * n + query + tl.arange(0, 1)
    tl.store(LSE + place, log_sum(base, total))
    on = tl.load(ON + b * n + query + tl.arange(0, 1)) if ON is not None else tl.full([1], 1, tl.int32)
    f0, fk = l0 * 0.0 + 1.0, lk * 0.0 + 1.0
    if CGAIN is not None:
        f0, fk = class_factors(l0 * inverse, lk * inverse[:, None], on, CGAIN, LEAST, FREED, bh, LIVE, NK)
    out = tl.zeros([BD], tl.float32)
    inside = here[:, None] & (d < D)[None, :]
    for c in tl.static_range(NC):
        f = f0
        if c > 0:
            f = tl.sum(tl.where(column == c - 1, fk, 0.0), 1)
        scale = tl.exp2(tl.load(MOST + at + c * PER, mask=here, other=float("-inf")) - base) * f
        x = tl.load(PART + (at + c * PER)[:, None] * D + d[None, :], mask=inside, other=0.0)
        out += tl.sum(x * scale[:, None], 0)
        if FACTOR is not None:
            tl.store(FACTOR + place * NC + c, f)
    if GAIN is not None:
        inverse = inverse * tl.where(on != 0, tl.load(GAIN + bh), 1.0)
    out = out * inverse
    tl.store(OUT + (one * bh * n + query) * D + d, out.to(OUT.dtype.element_ty), mask=d < D)


def _classes(call: Call) -> int:
    return (2 if call.two else 1 + CLASSES) if call.classes else 1


def suits(call: Call) -> bool:
    """Whether few queries meet many keys."""
    rows = _classes(call) * (call.h // call.k.shape[1]) * call.n
    return 0 < rows <= ROWS and call.m >= FEWEST * call.tiles.keys


def _parts(call: Call, blocks: int) -> int:
    """Programs over the keys: about two a multiprocessor, at least two blocks each."""
    if not call.q.is_cuda:
        return max(1, min(3, blocks))
    wanted = 2 * torch.cuda.get_device_properties(call.device).multi_processor_count
    return max(1, min(wanted // (call.b * call.k.shape[1]), blocks // 2, 128))


def run(call: Call, _: Reductions) -> None:
    """Output and log-sum-exp of a decode step, and the factors of the classes."""
    given = call.arguments(call.edits is not None)
    nc, group, groups, n = _classes(call), given["GROUP"], call.k.shape[1], call.n
    per = group * n
    rows, keys = nc * per, call.tiles.keys
    low = max(0, call.shift - call.spec.sliding + 1) if call.spec.sliding is not None else 0
    high = max(low, min(call.m, n + call.shift))
    blocks = -(-(high - low) // keys)
    chunk = -(-max(1, blocks) // _parts(call, blocks)) * keys
    parts = max(1, -(-(high - low) // chunk))
    numbers = {"dtype": torch.float32, "device": call.device}
    part = torch.empty(call.b, groups, parts, rows, call.d, **numbers)
    most, total = (torch.empty(call.b, groups, parts, rows, **numbers) for _ in range(2))
    if call.classes:
        call.factor = torch.empty(call.b, call.h, n, nc, **numbers)
    shared = {x: given[x] for x in ("ON", "n", "H", "LIVE", "GROUP", "D", "BD")} | {
        "PART": part, "MOST": most, "SUM": total, "ROWS_": rows, "PER": per, "NC": nc,
    }  # fmt: skip
    v = {"V": call.v, "svb": call.v.stride(0), "svh": call.v.stride(1), "svn": call.v.stride(2)}
    keys_of = {"low": low, "high": high, "chunk": chunk, "BM": max(16, triton.next_power_of_2(rows))}
    options = call.tiles.options | {"num_warps": 4}
    arguments = {x: y for x, y in given.items() if x != "LSE"} | shared | v | keys_of
    triton_launch.launch(split, (parts, call.b * groups), arguments, options)
    tables = {x: call.edit(x) if call.classes else None for x in ("CGAIN", "LEAST", "FREED")}
    results = {"OUT": call.z, "LSE": call.lse, "FACTOR": call.factor, "SINK": call.sinks}
    last = {"GAIN": call.edit("GAIN"), "parts": parts, "SPLITS": triton.next_power_of_2(parts)}
    triton_launch.launch(merge, (n, call.b * call.h), shared | tables | results | last, options)
