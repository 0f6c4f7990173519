"""Attention of a whole small pattern in float64, written out for autograd: specs, edits, inputs."""

from __future__ import annotations

import torch
from workbench_kernels import AttentionSpec, HeadEdits
from workbench_kernels.types import RowPatterns

B, H, G, N, D = 2, 4, 2, 19, 4


def leaves(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    shapes = (B, H, N, D), (B, G, N, D), (B, G, N, D)
    return [torch.randn(*s, dtype=dtype).requires_grad_() for s in shapes]


def specs(name: str) -> AttentionSpec:
    pad, j = torch.tensor([[0], [5]]), torch.arange(N)[None]
    more = {
        "causal": {},
        "left padding": {"padding": j >= pad},
        "right padding": {"padding": j < N - pad},
        "sliding": {"sliding": 6},
        "mask function": {"allowed": lambda b, h, q, k: (k <= q) & (q - k < 6), "reach": 6},
        "softcap": {"softcap": 1.5},
        "learned sink": {"sink_logits": torch.randn(H, dtype=torch.float64).requires_grad_()},
    }
    return AttentionSpec(scale=0.4, **more[name])


def edits(name: str) -> HeadEdits | None:
    def table() -> torch.Tensor:
        return (torch.rand(1, H, 2, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()

    keys = torch.zeros(B, 1, N, dtype=torch.long)
    keys[..., 0], keys[..., 7:10] = 1, 2
    rows = torch.tensor([[N - 1, 9], [N - 2, 11]])
    weights = torch.rand(B, 2, 3, dtype=torch.float64).requires_grad_()
    patterns = RowPatterns(torch.rand(B, H) < 0.7, rows, torch.randint(0, 9, (B, 2, 3)), weights)
    return {
        "none": None,
        "gain": HeadEdits(gain=torch.rand(B, H, dtype=torch.float64).requires_grad_()),
        "classes, others": HeadEdits(key_class=keys, class_gain=table(), freed=torch.ones(1, H, dtype=torch.long)),
        "classes, all": HeadEdits(key_class=keys, class_gain=table(), freed=torch.full((1, H), 2)),
        "bias and boost": HeadEdits(key_class=keys, bias=table(), boost=table()),
        "window, uniform": HeadEdits(window=torch.tensor([[0, 3, 0, 9]]), sink=2, uniform=torch.arange(H)[None] == 2),
        "rows": HeadEdits(rows=patterns),
    }[name]


def whole(q, k, spec: AttentionSpec, edit: HeadEdits | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole pattern at once and its log-sum-exp, from the definitions."""
    k = k.repeat_interleave(H // G, 1)
    i, j = torch.arange(N)[:, None], torch.arange(N)[None]
    s = q @ k.mT * spec.scale
    s = s if spec.softcap is None else spec.softcap * torch.tanh(s / spec.softcap)
    onehot = None if edit is None or edit.key_class is None else torch.nn.functional.one_hot(edit.key_class, 3).double()
    if edit is not None and edit.boost is not None:
        for c in (0, 1):
            s = (
                s
                + (edit.boost[..., c, None, None] * s.abs() + edit.bias[..., c, None, None])
                * onehot[..., None, :, c + 1]
            )
    seen = (j <= i) & (i - j < (spec.reach or spec.sliding or N))
    seen = (seen if spec.padding is None else seen & spec.padding[:, None, None]).expand(B, H, N, N)
    if edit is not None and edit.window is not None:
        w = edit.window[:, :, None, None]
        first = 0 if spec.padding is None else spec.padding.int().argmax(-1)[:, None, None, None]
        seen = seen & ((i - j < w) | (j < first + edit.sink) | (w == 0))
    s = torch.where(seen, s, -1e300)
    if spec.sink_logits is not None:
        s = torch.cat([s, spec.sink_logits[None, :, None, None].expand(B, H, N, 1)], -1)
    lse, p = s.masked_fill(s < -1e299, float("-inf")).logsumexp(-1), s.softmax(-1)[..., :N] * seen
    if edit is not None and edit.rows is not None:
        for b in range(B):
            for r in range(2):
                new = torch.zeros(N, dtype=p.dtype).index_add(0, edit.rows.keys[b, r], edit.rows.weights[b, r])
                at = torch.zeros(B, H, N, 1, dtype=torch.bool)
                at[b, edit.rows.heads[b], edit.rows.rows[b, r]] = True
                p = torch.where(at, new * (j[0] <= edit.rows.rows[b, r]), p)
    if edit is not None and edit.class_gain is not None:
        g = torch.cat([torch.ones(1, H, 1, dtype=p.dtype), edit.class_gain], -1)
        factor = torch.einsum("bhc,bgkc->bhk", g.expand(B, -1, -1), onehot)[:, :, None]
        new = p * factor
        if int(edit.freed[0, 0]) == 2:
            p = new / new.sum(-1, keepdim=True).clamp_min(1e-300)
        else:
            other = onehot[..., None, :, 0]
            mass = (p * other).sum(-1, keepdim=True)
            share = 1 + (p - new).sum(-1, keepdim=True) / mass.clamp_min(1e-300)
            p = torch.where(mass > 0, new * torch.where(other > 0, share, 1.0), p)
    if edit is not None and edit.uniform is not None:
        p = torch.where(edit.uniform[..., None, None], seen.double() / seen.sum(-1, keepdim=True).clamp_min(1), p)
    return p, lse


def dense(q, k, v, spec: AttentionSpec, edit: HeadEdits | None) -> torch.Tensor:
    """The output of the whole pattern."""
    z = whole(q, k, spec, edit)[0] @ v.repeat_interleave(H // G, 1)
    return z if edit is None or edit.gain is None else z * edit.gain[..., None, None]


def inputs_of(spec: AttentionSpec, edit: HeadEdits | None) -> list[torch.Tensor]:
    held = [spec.sink_logits] if edit is None else [spec.sink_logits, edit.gain, edit.class_gain, edit.bias, edit.boost]
    held += [] if edit is None or edit.rows is None else [edit.rows.weights]
    return [x for x in held if x is not None]


def bridge_patterns(model, x, mask):
    """[b, layers, h, n, n] in float64, of the plain eager bridge; zero on padding."""
    found = {}
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(model.n_layers)]
    hooks = [(name, lambda p, hook: found.__setitem__(hook.name, p)) for name in names]
    with torch.no_grad():
        model.bridge.run_with_hooks(x, fwd_hooks=hooks, attention_mask=mask.long())
    p = torch.stack([found[name] for name in names], 1).double()
    return p * mask[:, None, None, :, None] * mask[:, None, None, None]
