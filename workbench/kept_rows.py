"""The last layer's attention in the rows whose logits are wanted: no other row reaches the answer.

A needle's answer takes a few rows of thousands, so a scan saves the attention of one layer, a resumed proof more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, Statistics

from workbench import backends


def suffice(rows: slice, edits: Sequence[HeadEdits], want: Reductions | None) -> bool:
    """Whether these rows alone give all that was asked: edits that hold in every row, statistics of these rows."""
    if any(e.queries is not None or e.rows is not None or _by_row(e.replacement) for e in edits) or len(edits) > 1:
        return False
    if want is None:
        return True
    if want.whole_rows or want.norms:
        return False
    return want.rows is None or bool(((want.rows >= rows.start) & (want.rows < rows.stop)).all())


def _by_row(replacement: Tensor | None) -> bool:
    return replacement is not None and replacement.shape[2] > 1


def attend(
    backend: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spec: AttentionSpec,
    edits: Sequence[HeadEdits],
    want: Reductions | None,
    rows: slice,
) -> tuple[Tensor, Statistics]:
    """Output that is zero in all other rows, and the statistics."""
    part = replace(spec, q_offset=spec.q_offset + rows.start)
    if want is not None and want.rows is not None:
        want = replace(want, rows=want.rows - rows.start)
    some, stats = backends.attend(backend, q[:, :, rows], k, v, part, list(edits), want)
    z = q.new_zeros(*q.shape[:3], some.shape[-1])
    z[:, :, rows] = some
    return z, stats
