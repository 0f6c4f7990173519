"""The largest weights of a part of the pattern against whole eager patterns: groups, windows, padding on the left."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from dense_attention import bridge_patterns

import workbench as wb
from workbench.errors import BadInput, Unsupported


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_the_largest_weights_of_a_part_are_those_of_the_pattern(kind, tmp_path):
    model = wb.load(tiny_models.save(kind, tmp_path))
    x = torch.randint(3, 97, (2, 30), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(30)[None] >= torch.tensor([[0], [6]])
    (q0, q1), (k0, k1), heads = (12, 28), (7, 15), [1, 6]
    p = bridge_patterns(model, x, mask).transpose(0, 1).float()
    probes = [wb.probes.strongest((q0, q1), (k0, k1), 5, heads), wb.probes.top_keys(3)]
    seen = wb.observe(model, x, probes, mask)
    found = seen["strongest"]
    part = p[:, :, heads, q0:q1, k0:k1].flatten(3)
    torch.testing.assert_close(found.weights, part.topk(5).values, atol=2e-6, rtol=1e-4)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in found.weights.shape)):
        layer, b, h, j = index.tolist()
        w, q, k = (part[layer, b, h, j] for part in found)
        if w > 0:
            assert q0 <= q < q1 and k0 <= k < k1
            assert p[layer, b, heads[h], q, k] == pytest.approx(w.item(), abs=2e-6)
    whole = p.flatten(3).topk(5).values[:, :, heads]
    assert (whole > found.weights + 1e-3).any(), "larger weights elsewhere are not taken"
    torch.testing.assert_close(seen["top_keys"].values[..., 0], p.amax(-1), atol=2e-6, rtol=1e-4)  # others see all keys


def test_a_part_with_few_weights_says_so_and_bad_ones_are_refused(tmp_path):
    model = wb.load(tiny_models.save("llama", tmp_path))
    x = torch.randint(3, 97, (1, 12))
    found = wb.observe(model, x, [wb.probes.strongest((3, 5), (4, 9), 6)])["strongest"]
    assert (found.keys[..., 0] == 4).all() and (found.queries[..., 0] == 4).all(), "the only pair that is no future"
    assert (found.keys[..., 1:] == -1).all() and (found.weights[..., 1:] == 0).all()
    for queries, keys, said in (
        ((3, 3), (0, 2), "start < stop"),
        ((0, 13), (0, 2), "outside"),
        ((0, 3), (5, 13), "outside"),
    ):
        with pytest.raises(BadInput, match=said):
            wb.observe(model, x, [wb.probes.strongest(queries, keys)])
    with wb.intervene(model, wb.mask([(0, 1)])), pytest.raises(Unsupported, match="observe outside"):
        wb.observe(model, x, [wb.probes.strongest((0, 3), (0, 3))])
