"""Statistics that carry gradients, in O(N) memory: the backward pass makes each block's pattern again.

Gradients reach q, k, the learned sinks, and of the edits class_gain, bias, boost and the weights of replaced rows. The
largest weights of a thumbnail's cells (channel 1) carry none, and say so in the backward pass; indices are no numbers.
An entropy's slope at a weight that is exactly 0 (a class gain of 0) is infinite and taken for 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench_kernels.gradients import Cuts, blockwise, cuts
from workbench_kernels.patterns import block, phased
from workbench_kernels.pieces import Pieces, Rows, Valid, cells, of_each_head, of_each_row, of_looks
from workbench_kernels.reducers import seeing, valid_queries
from workbench_kernels.sweep import FEWEST, ROWS, SCRATCH, sweep
from workbench_kernels.triton_support import SWEPT, Unsupported
from workbench_kernels.types import AttentionSpec, Edits, HeadEdits, Reductions, Statistics, phases


def statistics(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], spec: AttentionSpec, edits: Edits, want: Reductions
) -> Statistics:
    """The reductions of the edited pattern, with gradients; `norms`, which needs values, is left to the caller."""
    if want.swept:
        raise Unsupported(f"{SWEPT[want.swept[0]]} has no gradients: ask without grad=True")
    out, held = Statistics(), phases(edits)
    if want.whole_rows:
        out = _of_whole_rows(q, k, spec, held, want)
    if want.rows is not None and (want.top_k or want.spans is not None):
        found = _of_chosen_rows(q, k, spec, held, want)
        out.top_values, out.top_indices, out.mass = (found.get(n) for n in ("top_values", "top_indices", "mass"))
    return out


def _run(
    pieces: Pieces, blocks: Cuts, q: Tensor, k: Tensor, spec: AttentionSpec, edits: tuple[HeadEdits, ...], top: int,
    chosen: Int[Tensor, "b r"] | None = None, valid: Valid = None,
) -> dict[str, Tensor]:  # fmt: skip
    """All pieces of all blocks. chosen: the queries, where they are not all."""
    if not pieces:
        return {}

    def part(
        rows: slice, keys: slice, q: Tensor, k: Tensor, _: None, spec: AttentionSpec, edits: tuple[HeadEdits, ...]
    ) -> list[Tensor]:
        queries = block(rows.start, rows.stop, q.device) if chosen is None else chosen[:, rows]
        p, lse = phased(q, k, spec, edits, queries, keys)
        made = Rows(p, lse, rows, keys, None if valid is None else valid[:, rows], top)
        return [of(made) for of, _ in pieces.values()]

    found = blockwise(part, [whole for _, whole in pieces.values()], blocks, q, k, None, spec, edits)
    return dict(zip(pieces, found, strict=True))


def _at_once(q: Tensor, m: int) -> int:
    """Rows of a block."""
    return max(FEWEST, min(ROWS, 2 * SCRATCH // max(1, q.shape[0] * q.shape[1] * m)))


def _of_chosen_rows(
    q: Tensor, k: Tensor, spec: AttentionSpec, edits: tuple[HeadEdits, ...], want: Reductions
) -> dict[str, Tensor]:
    """Top keys and masses of chosen queries."""
    assert want.rows is not None
    (b, h, _, d), m = q.shape, k.shape[2]
    chosen = want.rows.to(q.device).expand(b, -1)
    some, r = q.gather(2, chosen[:, None, :, None].expand(-1, h, -1, d)), chosen.shape[1]
    step, pieces = _at_once(q, m), of_looks(b, h, r, m, want, q.device)
    blocks = [(slice(i, min(r, i + step)), slice(0, m)) for i in range(0, r, step)]
    return _run(pieces, blocks, some, k, spec, edits, min(want.top_k, m), chosen)


def _of_whole_rows(
    q: Tensor, k: Tensor, spec: AttentionSpec, edits: tuple[HeadEdits, ...], want: Reductions
) -> Statistics:
    """Sums of the blocks made means, and what is made of the log-sum-exp."""
    (b, h, n, _), m = q.shape, k.shape[2]
    valid = valid_queries(spec, n, m, q.device)
    pieces = of_each_row(b, h, n, spec, want) | of_each_head(q, k, spec, want)
    if want.rows is None:
        pieces |= of_looks(b, h, n, m, want, q.device)
    blocks = cuts(spec, _at_once(q, m), n, m)
    found = _run(pieces, blocks, q, k, spec, edits, min(want.top_k, m), valid=valid)
    plain = ("at_offset", "entropy", "top_values", "top_indices", "mass")
    out = Statistics(**{name: found.get(name) for name in plain})
    if want.lse:
        out.lse = found["lse"]
    if want.sink_mass:
        sinks = torch.tensor(float("nan"), device=q.device) if spec.sink_logits is None else spec.sink_logits
        out.sink_mass = (sinks.to(found["lse"])[..., None] - found["lse"]).exp()
    if want.received:
        count = found["seeing"] if "seeing" in found else seeing(spec, n, m, q.device)
        out.received = found["received"] / count.clamp_min(1)[:, None]
    text = torch.ones(1, n, dtype=torch.bool, device=q.device) if valid is None else valid
    if want.distance:
        out.distance = found["distance"] / text.sum(-1).clamp_min(1)[:, None, None]
    if want.thumbnail:
        count = torch.matmul(text.float(), cells(q, k, spec, want.thumbnail)[0].float())
        mean = found["thumbnail"] / count.clamp_min(1)[:, None, :, None]
        out.thumbnail = _beside_largest(mean, q, k, spec, edits, want)
    return out


def _beside_largest(
    mean: Float[Tensor, "b h n n"], q: Tensor, k: Tensor, spec: AttentionSpec, edits: tuple[HeadEdits, ...],
    want: Reductions,
) -> Float[Tensor, "b h 2 n n"]:  # fmt: skip
    """Both channels; the second is no sum of blocks."""
    with torch.no_grad():
        whole = sweep(q, k, None, spec, edits, replace(Reductions(), thumbnail=want.thumbnail))[1].thumbnail
    assert whole is not None
    return torch.stack([mean, _Constant.apply(whole[:, :, 1].to(mean), mean)], 2)  # type: ignore[arg-type]


class _Constant(torch.autograd.Function):
    """A tensor without gradients that lets nobody believe that it has some."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beside: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if bool(grad.any()):
            raise Unsupported(
                "thumbnail: the largest weights of its cells (channel 1) carry no gradient: use channel 0, or top_keys"
            )
        return None, None
