"""The truth: the whole N×N pattern in float64, slow on purpose. Every backend is compared with it."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor

from workbench_kernels.reference_rows import Row, at
from workbench_kernels.types import AttentionSpec, Edits, HeadEdits, Reductions, Statistics, phases


def full_pattern(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], spec: AttentionSpec, edits: Edits = None
) -> tuple[Float[Tensor, "b h q k"], Float[Tensor, "b h q"]]:
    """Pattern and log-sum-exp, written row by row from the definitions and sharing no code with the backends."""
    b, h, n, _ = q.shape
    m, group = k.shape[2], h // k.shape[1]
    p = torch.zeros(b, h, n, m, dtype=torch.float64)
    lse = torch.full((b, h, n), float("-inf"), dtype=torch.float64)
    for bi in range(b):
        valid = [True] * m if spec.padding is None else spec.padding[bi].tolist()
        first = int(spec.first_valid(b, q.device)[bi])
        for hi in range(h):
            kv = k[bi, hi // group].double()
            for qi in range(n):
                row = Row(spec, _holding(edits, bi, qi), bi, hi, qi, first)
                seen = [j for j in range(m) if valid[j] and row.sees(j)]
                s = (kv[seen] @ q[bi, hi, qi].double()) * spec.scale
                if spec.softcap is not None:
                    s = spec.softcap * torch.tanh(s / spec.softcap)
                s = torch.stack([row.score(x, j) for x, j in zip(s, seen)]) if seen else s
                total = s if spec.sink_logits is None else torch.cat([s, spec.sink_logits[hi : hi + 1].double()])
                if len(total):
                    lse[bi, hi, qi] = total.logsumexp(0)
                    p[bi, hi, qi, seen] = (s - lse[bi, hi, qi]).exp()
                p[bi, hi, qi] = row.edited(p[bi, hi, qi], [j for j in range(m) if valid[j]], seen)
    return p, lse


def _holding(edits: Edits, batch: int, query: int) -> HeadEdits | None:
    """The edits that hold in a query."""
    held = [e for e in phases(edits) if e.queries is None or at(e.queries, batch)[query]]
    return held[0] if held else None


def attend(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: Edits = None,
    reductions: Reductions | None = None,
) -> tuple[Float[Tensor, "b h q d"], Statistics]:
    """Output and statistics in float64."""
    b, h, n, _ = q.shape
    p, lse = full_pattern(q, k, spec, edits)
    z = p @ v.double().repeat_interleave(h // v.shape[1], 1)
    for bi in range(b):
        for qi in range(n):
            edit = _holding(edits, bi, qi)
            if edit is not None and edit.gain is not None:
                z[bi, :, qi] *= edit.gain.expand(b, -1)[bi, :, None].double()
            if edit is not None and edit.replace is not None and edit.replacement is not None:
                take = edit.replace.expand(b, -1)[bi]
                z[bi, take, qi] = edit.replacement.expand(b, -1, n, -1)[bi, take, qi].double()
    out = statistics(p, lse, spec, reductions or Reductions())
    if reductions is not None and reductions.norms:
        out.norms = z.norm(dim=-1)
    return z, out


def statistics(
    p: Float[Tensor, "b h q k"], lse: Float[Tensor, "b h q"], spec: AttentionSpec, want: Reductions
) -> Statistics:
    """The reductions of a whole pattern, from their definitions; norms, which are not of the pattern, aside."""
    out = Statistics(lse=lse if want.lse else None)
    b, h, n, m = p.shape
    rows = torch.arange(n).expand(b, n) if want.rows is None else want.rows
    chosen = torch.stack([p[bi][:, rows[bi]] for bi in range(b)])
    if want.top_k:
        out.top_values, out.top_indices = chosen.topk(min(want.top_k, m), -1)
    if want.spans is not None:
        mass = [[chosen[bi, :, :, s:e].sum(-1) for s, e in want.spans[bi].tolist()] for bi in range(b)]
        out.mass = torch.stack([torch.stack(row, -1) for row in mass])
    if want.received:
        out.received = torch.zeros(b, h, m, dtype=torch.float64)
        for bi in range(b):
            for j in range(m):
                seeing = [i for i in range(n) if _sees(spec, bi, i, j) and _valid_query(spec, bi, i)]
                if seeing:
                    out.received[bi, :, j] = p[bi, :, seeing, j].mean(-1)
    if want.offsets:
        out.at_offset = torch.zeros(b, h, n, len(want.offsets), dtype=torch.float64)
        for i in range(n):
            for o, offset in enumerate(want.offsets):
                j = i + spec.q_offset - spec.kv_offset - offset
                if 0 <= j < m:
                    out.at_offset[:, :, i, o] = p[:, :, i, j]
    if want.entropy:
        out.entropy = -torch.xlogy(p, p).sum(-1)
    if want.sink_mass:
        sinks = torch.full((1,), float("nan")) if spec.sink_logits is None else spec.sink_logits
        out.sink_mass = (sinks.double()[None, :, None] - lse).exp()
    if want.distance:
        out.distance = _distance(p, spec)
    if want.swept:
        _of_rows(out, p, spec, want)
    if want.thumbnail:
        out.thumbnail = _thumbnail(p, spec, want.thumbnail)
    return out


def _distance(p: Tensor, spec: AttentionSpec) -> Tensor:
    """Mean mass over the valid queries in the bins 0, 1, 2–3, 4–7, … up to the longest distance that there can be."""
    b, h, n, m = p.shape
    longest = max(1, spec.q_offset + n - spec.kv_offset) - 1
    out = torch.zeros(b, h, longest.bit_length() + 1, dtype=torch.float64)
    for bi in range(b):
        valid = [i for i in range(n) if _valid_query(spec, bi, i)]
        for i in valid:
            for j in range(m):
                distance = i + spec.q_offset - j - spec.kv_offset
                if distance >= 0:
                    out[bi, :, distance.bit_length()] += p[bi, :, i, j] / len(valid)
    return out


def _of_rows(out: Statistics, p: Tensor, spec: AttentionSpec, want: Reductions) -> None:
    """Mass by distance, moments and matches of every row, a weight at a time."""
    b, h, n, m = p.shape
    longest = max(1, spec.q_offset + n - spec.kv_offset) - 1
    profile = torch.zeros(b, h, n, longest.bit_length() + 1, dtype=torch.float64)
    moments = torch.zeros(b, h, n, 2, dtype=torch.float64)
    lists = 0 if want.matches is None else len(want.matches.least)
    matched = torch.zeros(b, h, n, lists, dtype=torch.float64)
    for bi, i, j in itertools.product(range(b), range(n), range(m)):
        d, w = i + spec.q_offset - j - spec.kv_offset, p[bi, :, i, j]
        if d < 0:
            continue
        profile[bi, :, i, d.bit_length()] += w
        moments[bi, :, i] += torch.stack([w * d, w * d * d], -1)
        for x in range(lists):
            assert want.matches is not None
            if want.matches.queries[bi, i] == want.matches.keys[bi, x, j]:
                matched[bi, :, i, x] += w * (w >= want.matches.least[x])
    out.profile = profile if want.profile else None
    out.moments = moments if want.moments else None
    out.matched = matched if lists else None


def _thumbnail(p: Tensor, spec: AttentionSpec, side: int) -> Tensor:
    b, h, n, m = p.shape
    size = -(-max(spec.q_offset + n, spec.kv_offset + m) // side)
    out = torch.zeros(b, h, 2, side, side, dtype=torch.float64)
    for bi in range(b):
        for r in range(side):
            rows = [i for i in range(n) if (i + spec.q_offset) // size == r and _valid_query(spec, bi, i)]
            for c in range(side):
                keys = [j for j in range(m) if (j + spec.kv_offset) // size == c]
                if rows and keys:
                    part = p[bi][:, rows][:, :, keys]
                    out[bi, :, 0, r, c] = part.sum(-1).mean(-1)
                    out[bi, :, 1, r, c] = part.amax((-1, -2))
    return out


def _sees(spec: AttentionSpec, batch: int, query: int, key: int) -> bool:
    valid = spec.padding is None or bool(spec.padding[batch, key])
    return valid and Row(spec, None, batch, 0, query, 0).sees(key)


def _valid_query(spec: AttentionSpec, batch: int, query: int) -> bool:
    """A query whose own key is here and padding is no query of the text."""
    own = query + spec.q_offset - spec.kv_offset
    return spec.padding is None or not 0 <= own < spec.padding.shape[1] or bool(spec.padding[batch, own])
