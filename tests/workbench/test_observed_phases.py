"""Statistics of a forward of both phases, each edited in its own way: against edited patterns of the eager bridge."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from workbench_kernels import Reductions

import workbench as wb
from workbench import probes

TOL = {"atol": 2e-5, "rtol": 2e-5}  # float32 sums of 30 weights in another order
N, START = 30, [17, 22]
HEADS, SINKS, SPAN = [(0, 1), (1, 3), (1, 6), (2, 0)], [2, 4], list(range(6, 11))


@pytest.fixture(scope="module", params=["llama", "mistral", "gpt2"])
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


def early(p):
    """Suppressed without normalising, [q, k]."""
    p = p.clone()
    p[:, SINKS] = 0
    return p


def late(p):
    p = p.clone()
    p[:, SPAN] *= 4
    return p / p.sum(-1, keepdim=True)


@torch.no_grad()
def patterns(model, x, mask):
    """Edited patterns of all layers, [layers, b, h, n, n], and logits; plain hooks on the bridge."""
    found = {}

    def hook(p, hook):
        p = p.clone()
        for layer, h in HEADS:
            if layer == hook.layer():
                for b, start in enumerate(START):
                    p[b, h] = torch.where(torch.arange(N)[:, None] < start, early(p[b, h]), late(p[b, h]))
        found[hook.layer()] = p.double() * mask[:, None, :, None]
        return p

    hooks = [(f"blocks.{i}.attn.hook_pattern", hook) for i in range(3)]
    logits = model.bridge.run_with_hooks(x, fwd_hooks=hooks, attention_mask=mask.long())
    return torch.stack([found[i] for i in range(3)]), logits


@torch.no_grad()
def test_both_phases_are_seen_as_they_are_edited(model):
    x = torch.randint(3, 97, (2, N), generator=torch.Generator().manual_seed(4))
    mask = torch.arange(N)[None] >= torch.tensor([[0], [1]])
    edit = wb.suppress(HEADS, SINKS, at="prefill") + wb.amplify(HEADS, SPAN, 4, at="decode")
    p, logits = patterns(model, x, mask)
    asked = [probes.received(), probes.entropy(), probes.mass([(2, 9)]), probes.mass([(5, 12)], rows=(-1, 18), name="few"),
             probes.thumbnail(5)]  # fmt: skip
    with wb.intervene(model, edit), wb.observing(model, asked) as found:
        ours = model.forward(x, mask, decode_from=START).logits
    keep = mask[:, :, None].expand_as(logits)
    torch.testing.assert_close(ours[keep], logits[keep], atol=2e-5 * float(logits.abs().max()), rtol=0)
    plain = model.bridge.run_with_cache(
        x, attention_mask=mask.long(), names_filter=lambda n: n.endswith("hook_pattern")
    )
    seen = torch.stack([plain[1][f"blocks.{i}.attn.hook_pattern"] > 0 for i in range(3)]) & mask[:, None, :, None]
    rows = mask[None, :, None].expand(3, 2, 8, N)

    def close(name, theirs, at=None):
        mine = found[name].double()
        torch.testing.assert_close(mine if at is None else mine[at], theirs if at is None else theirs[at], **TOL)

    close("received", p.sum(-2) / seen.sum(-2).clamp_min(1))
    close("entropy", -torch.xlogy(p, p).sum(-1), rows)
    close("mass", p[..., 2:9].sum(-1)[..., None], rows)
    close("few", p[..., [N - 1, 18], 5:12].sum(-1)[..., None])
    torch.testing.assert_close(
        found["thumbnail"].pooled[:, 0, :, 0, 3, 1].double(), p[:, 0, :, 18:24, 6:12].sum(-1).mean(-1), **TOL
    )
    want = Reductions(rows=torch.tensor([[18, N - 1]] * 2), top_k=1, spans=torch.tensor([[[5, 12]]] * 2))
    asked_of = model.forward(x, mask, edits=edit, decode_from=START, reductions=lambda layer, m: want).statistics
    for layer in range(3):
        torch.testing.assert_close(
            asked_of[layer].mass[..., 0].double(), p[layer][:, :, [18, N - 1], 5:12].sum(-1), **TOL
        )
