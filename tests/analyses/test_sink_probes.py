"""What the sink scan rests on, against the definitions: probes, the edits of its check, windows with new positions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny_models
import torch
import torch.nn.functional as F
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.sinks import causal
from workbench_analyses.sinks.found import Parked
from workbench_analyses.sinks.renumbered import windowed_outputs

import workbench as wb
from workbench.errors import BadInput
from workbench.heads import Head


def padded(n=40):
    mask = torch.ones(3, n, dtype=torch.bool)
    mask[0, :7], mask[1, -5:] = False, False
    return torch.randint(3, 97, (3, n)), mask


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
def test_probes_agree_with_the_definitions(kind, tmp_path):
    model = wb.load(tiny_models.save(kind, tmp_path))
    tokens, mask = padded()
    n, keys = tokens.shape[1], [[9, 20], [0, 3], [0, 30]]
    asked = [wb.probes.even(), wb.probes.held(keys), wb.probes.received(), wb.probes.top_keys(n)]
    seen = wb.observe(model, tokens, asked, mask)
    top = seen["top_keys"]
    p = torch.zeros(*top.values.shape[:-1], n).scatter_(-1, top.indices, top.values)
    for b in range(3):
        sees = torch.zeros(n, n, dtype=torch.bool)
        for q in range(n):
            for k in range(q + 1):
                near = kind != "mistral" or q - k < tiny_models.WINDOWED["sliding_window"]
                sees[q, k] = mask[b, q] and mask[b, k] and near
        share = sees.double() / sees.sum(1, keepdim=True).clamp_min(1)
        count = sees.sum(0)
        assert torch.equal(seen["even"].queries[0, b].long(), count)
        torch.testing.assert_close(seen["even"].received[1, b], share.sum(0) / count.clamp_min(1))
        for i, key in enumerate(keys[b]):
            above = (p[:, b, :, :, key] > share[:, key]) & sees[:, key]
            torch.testing.assert_close(seen["held"][:, b, :, i], (above.sum(-1) / count[key]).float())
            mean = (p[:, b, :, :, key] * sees[:, key]).sum(-1) / count[key]
            torch.testing.assert_close(seen["received"][:, b, :, key], mean, atol=1e-5, rtol=1e-4)


def test_massive_and_phi_agree_with_the_activations(tmp_path):
    model = wb.load(tiny_models.save("llama", tmp_path))
    tokens = torch.randint(3, 97, (2, 30))
    seen = wb.observe(model, tokens, [wb.probes.massive(3), wb.probes.phi([5, 30])])
    _, cache = model.bridge.run_with_cache(tokens)
    for layer in range(3):
        x, entering = (cache[f"blocks.{layer}.hook_resid_{at}"].double() for at in ("post", "pre"))
        for b in range(2):
            order = x[b].abs().flatten().sort(descending=True)
            got = seen["massive"]
            torch.testing.assert_close(got.values[layer, b], order.values[:3], atol=1e-4, rtol=1e-4)
            assert (got.positions[layer, b] * 32 + got.dims[layer, b]).tolist() == order.indices[:3].tolist()
            assert float(got.median[layer, b]) == pytest.approx(float(order.values[30 * 32 // 2]), rel=1e-2)
        rms = entering.square().mean(-1).sqrt()
        expected = torch.maximum(entering[..., 5].abs(), entering[..., 30].abs()) / rms
        torch.testing.assert_close(seen["phi"][layer].double(), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(BadInput, match="0 to 31"):
        wb.observe(model, tokens, [wb.probes.phi([32])])


def test_edits_of_the_check_equal_plain_hooks(tmp_path):
    model = wb.load(tiny_models.save("llama", tmp_path))
    tokens = torch.randint(3, 97, (1, 40))
    config = ScanSinks(model="x", tokens=64, check_tokens=40, recent=8, epsilon_tokens=8)
    head, key, other = Head(1, 5), 3, Head(1, 2)
    parked = Parked(head, 0, False, 0.5, 1.0)
    found = SimpleNamespace(texts=SimpleNamespace(tokens=tokens), strongest={(0, head): SimpleNamespace(key=key)})
    got = causal._one_text(config, model, found, [parked], [(0, head), (0, other)], 0)
    plain = model(tokens)[0].double().log_softmax(-1)

    def edited(place, op):
        def edit(p, hook):
            row, n = p[:, place.head], p.shape[-1]
            if op == "value zeroed":
                row[..., key] = 0
            elif op == "key blocked":
                row[:, key:, key] = 0  # the sink itself is blocked in its own row too, which sees earlier keys
                row /= row.sum(-1, keepdim=True)
            else:
                first = int(op.split()[1])
                q, k = torch.arange(n)[:, None], torch.arange(n)[None]
                row *= (q - k < config.recent) | (k < first)
                row /= row.sum(-1, keepdim=True)
            return p

        return model.bridge.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{place.layer}.attn.hook_pattern", edit)])

    for i, place in enumerate((head, other)):
        for op in causal.OPS:
            said = edited(place, op)[0].double().log_softmax(-1)
            change = F.nll_loss(said[:-1], tokens[0, 1:]) - F.nll_loss(plain[:-1], tokens[0, 1:])
            kl = (plain.exp() * (plain - said)).sum(-1).mean()
            at = causal.EVERY.index(op)
            assert got["loss"][i, at] == pytest.approx(float(change), abs=2e-5), op
            assert got["kl"][i, at] == pytest.approx(float(kl), abs=2e-5) and kl > 1e-4


def test_a_renumbered_window_is_that_of_a_streaming_cache(tmp_path):
    """Every query on its own: its cache of first and last keys, all rotated at their places in the cache."""
    model = wb.load(tiny_models.save("llama", tmp_path))
    tokens, recent = torch.randint(3, 97, (1, 40)), 6
    held = {}
    names = {f"blocks.1.attn.hook_{x}": x for x in "qkv"}

    def keeping(x):
        return lambda value, hook: held.update({x: value[0].double()})

    with model.bridge.hooks(fwd_hooks=[(point, keeping(x)) for point, x in names.items()]):
        model(tokens)
    theta = float(model.config.rope_parameters["rope_theta"])

    def rotated(x, position):
        d = x.shape[-1]
        angle = position * theta ** (-torch.arange(0, d, 2).double() / d)
        cos, sin = (torch.cat([f(angle)] * 2) for f in (torch.cos, torch.sin))
        return x * cos + torch.cat([-x[d // 2 :], x[: d // 2]]) * sin

    for sink in (1, 4):
        ours = windowed_outputs(model, tokens, 1, [2, 5], sink, recent)
        for i, head in enumerate((2, 5)):
            q, k, v = held["q"][:, head], held["k"][:, head // 4], held["v"][:, head // 4]
            for at in (0, 3, 9, 25, 39):
                kept = sorted({*range(min(sink, at + 1)), *range(max(0, at - recent + 1), at + 1)})
                here = rotated(q[at], kept.index(at))
                scores = torch.stack([here @ rotated(k[j], place) for place, j in enumerate(kept)])
                expected = (scores * q.shape[-1] ** -0.5).softmax(0) @ v[kept]
                torch.testing.assert_close(ours[i, at].double(), expected, atol=1e-4, rtol=1e-3)
    assert windowed_outputs(wb.load(tiny_models.save("gpt2", tmp_path / "g")), tokens, 1, [2], 1, recent) is None
