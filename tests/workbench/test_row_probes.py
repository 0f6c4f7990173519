"""Probes of single rows and probes without sinks, against patterns of the plain eager bridge in float64."""

from __future__ import annotations

import pytest
import tiny_models
import torch

import workbench as wb
from workbench import probes
from workbench.errors import BadInput, Unsupported
from workbench.observation import observe, observing
from workbench.sinks import SinkRule, prompt_sinks

TOL = {"atol": 2e-5, "rtol": 2e-5}


@pytest.fixture(scope="module", params=["llama", "gemma2", "gpt_oss"])
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def parking():
    return wb.load("planted-sink")


def text(b: int, n: int, seed: int, most: int = 97):
    return torch.randint(3, most, (b, n), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def patterns(model, x, mask=None):
    """[layers, b, h, n, n] of the plain bridge, rows of padding zero."""
    found = {}
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(model.n_layers)]
    hooks = [(name, lambda p, hook: found.__setitem__(hook.name, p)) for name in names]
    model.bridge.run_with_hooks(x, fwd_hooks=hooks, **({} if mask is None else {"attention_mask": mask.long()}))
    p = torch.stack([found[name] for name in names]).double()
    return p if mask is None else p * mask[:, None, :, None] * mask[:, None, None]


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("backend", ["chunked", "hooks"])
def test_rows_are_those_of_the_eager_patterns(model, side: str, backend: str):
    n, few = 40, text(3, 40, 1, most=9)  # few words: many copies
    pads, j = torch.tensor([0, 7, 3])[:, None], torch.arange(n)
    mask = {"none": None, "left": j >= pads, "right": j < n - pads}[side]
    valid = torch.ones(3, n, dtype=torch.bool) if mask is None else mask
    queries, keys = probes.token_labels(few, mask)
    asked = [probes.profile(), probes.moments(), probes.matched(queries, keys, (0.0, 0.01))]
    with _used(model, backend):
        found = observe(model, few, asked, mask)
    p, far = patterns(model, few, mask), (j[:, None] - j).clamp_min(0)
    rows = valid[None, :, None].expand(p.shape[:4])
    bins = torch.where(far < 1, far, far.clamp_min(1).double().log2().floor().long() + 1)
    profile = torch.stack([(p * (bins == b)).sum(-1) for b in range(7)], -1)
    torch.testing.assert_close(found["profile"].double()[rows], profile[rows], **TOL)
    moments = torch.stack([(p * far).sum(-1), (p * far**2).sum(-1)], -1)
    torch.testing.assert_close(found["moments"].double()[rows], moments[rows], atol=2e-3, rtol=2e-5)
    echo, induction = torch.zeros(p.shape[:4]).double(), torch.zeros(p.shape[:4]).double()
    for b in range(3):
        first = int(valid[b].int().argmax())
        for q in range(n):
            for k in range(q + 1):
                if not (valid[b, q] and valid[b, k]):
                    continue
                if few[b, k] == few[b, q]:
                    echo[:, b, :, q] += p[:, b, :, q, k]
                if k > first and few[b, k - 1] == few[b, q]:
                    w = p[:, b, :, q, k]
                    induction[:, b, :, q] += w * (w >= 0.01)
    ours = found["matched"].double()
    torch.testing.assert_close(ours[..., 0][rows], echo[rows], **TOL)
    near = ((p > 0.0099) & (p < 0.0101)).any(-1)  # a weight at the threshold may fall on either side
    torch.testing.assert_close(ours[..., 1][rows & ~near], induction[rows & ~near], **TOL)
    assert (induction > 0.05).any() and (echo > 0.1).any()


def _used(model, backend):
    from workbench import backends

    return backends.used(model, backend)


@pytest.mark.parametrize("backend", ["chunked", "hooks"])
def test_without_sinks_the_rest_of_each_row_is_left(parking, backend: str):
    words = [t for t in range(len(parking.tokenizer)) if t not in parking.tokenizer.all_special_ids]
    random = torch.Generator().manual_seed(3)
    rows = [torch.tensor(words)[torch.randint(len(words), (n,), generator=random)].tolist() for n in (79, 60)]
    bos, stop = parking.tokenizer.bos_token_id, parking.tokenizer.convert_tokens_to_ids(".")
    prompts = [[bos, *row[:5], stop, *row[5:]] for row in rows]
    width = max(map(len, prompts))
    x = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.arange(width)[None] >= torch.tensor([[width - len(p)] for p in prompts])
    rule = SinkRule()
    asked = [probes.entropy(), probes.profile(), probes.received()]
    with _used(parking, backend):
        found = observe(parking, x, [*asked, *(probes.without_sinks(a, rule) for a in asked)], mask)
        sinks = prompt_sinks(parking, prompts, rule)
    p = patterns(parking, x, mask)
    rest = p.masked_fill(sinks[:, :, :, None], 0.0)
    valid = mask[None, :, None].expand(p.shape[:4])
    torch.testing.assert_close(found["profile without sinks"].double().sum(-1)[valid], rest.sum(-1)[valid], **TOL)
    torch.testing.assert_close(
        found["entropy without sinks"].double()[valid], -torch.xlogy(rest, rest).sum(-1)[valid], atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        found["entropy"].double()[valid], -torch.xlogy(p, p).sum(-1)[valid], atol=1e-4, rtol=1e-4
    )
    received = found["received without sinks"]
    assert (received[sinks] == 0).all() and (found["received"][sinks] > 0.1).all()
    assert sinks.any((1, 3)).sum() >= 8, "the planted heads that park"
    assert (rest.sum(-1)[valid] < 0.5).any()


def test_the_model_itself_is_not_touched(parking):
    x = text(2, 50, 4, most=40)
    plain = parking(x)
    with observing(parking, [probes.without_sinks(probes.profile(), SinkRule())]) as seen:
        logits = parking(x)
    assert torch.equal(plain, logits) and len(seen.calls) == 1


def test_what_cannot_be_read_is_refused(parking):
    x, rule = text(1, 40, 5, most=40), SinkRule()
    bare = probes.without_sinks(probes.profile(), rule)
    with wb.intervene(parking, wb.mask([(0, 0)])), pytest.raises(Unsupported, match="outside of interventions"):
        observe(parking, x, [bare])
    with observing(parking, [bare]), pytest.raises(Unsupported, match="not a generation"):
        parking.generate(x, 3, stop=[])
    with pytest.raises(BadInput, match="no sinks to leave out"):
        probes.without_sinks(probes.resid_norms(), rule)
    queries, keys = probes.token_labels(x)
    with pytest.raises(BadInput, match="lists"):
        probes.matched(queries, keys, (0.0,))
    with pytest.raises(BadInput, match="labels of 40 columns"):
        observe(parking, text(1, 50, 6, most=40), [probes.matched(queries, keys)])
    with pytest.raises(Unsupported, match="no gradients"):
        observe(parking, x, [probes.moments()], grad=True)
