"""What reading a token makes heads write: against values, W_O, norm and unembedding by hand, and in planted copy heads."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch

import workbench as wb
from workbench.budget import FewerRows
from workbench.errors import BadInput, TooLarge
from workbench.reference_models.catalogue import PLANTED


def by_hand(model, kind, tokens, layer, head, word):
    """Logits in float64 that the head's mean value of a word raises, beyond that of all places."""
    base = model.bridge.original_model
    name = f"blocks.{layer}.attn.hook_v"
    with torch.no_grad():
        _, cache = model.bridge.run_with_cache(tokens, names_filter=[name])
    v = (
        cache[name]
        .double()
        .reshape(*tokens.shape, model.n_kv_heads, -1)[:, :, head * model.n_kv_heads // model.n_heads]
    )
    z = v[tokens == word].mean(0) - v.mean((0, 1))
    wide = v.shape[-1]
    if kind == "gpt2":
        out = base.transformer.h[layer].attn.c_proj.weight.double()[head * wide : (head + 1) * wide]
        write = z @ out
        normed = (write - write.mean()) * base.transformer.ln_f.weight.double()
    else:
        out = base.model.layers[layer].self_attn.o_proj.weight.double()[:, head * wide : (head + 1) * wide]
        normed = (out @ z) * base.model.norm.weight.double()
    return base.lm_head.weight.double() @ normed


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_is_raised_is_what_the_weights_say(kind, tmp_path):
    """Grouped heads and RMSNorm; biases and LayerNorm. More texts than a batch holds."""
    model = wb.load(tiny_models.save(kind, tmp_path))
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 40, (3, 20), generator=rng)
    present = tokens.unique()
    words = present[torch.randint(len(present), (3, 8, 2), generator=rng)]
    found = wb.patching.promoted_tokens(model, tokens, words, 4, batch=2)
    assert found.shape == (3, 8, 2, 4)
    for layer, head, j in ((0, 0, 0), (1, 5, 1), (2, 7, 0)):
        logits = by_hand(model, kind, tokens, layer, head, int(words[layer, head, j]))
        picked = logits[found[layer, head, j]]
        torch.testing.assert_close(picked, logits.topk(4).values, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))
    other = by_hand(model, kind, tokens, 1, 4, int(words[1, 5, 1]))
    assert set(other.topk(4).indices.tolist()) != set(found[1, 5, 1].tolist()), "another head writes something else"
    with pytest.raises(BadInput, match="token 96 is in none of the texts"):
        wb.patching.promoted_tokens(model, tokens, torch.full((3, 8, 1), 96))


def test_fewer_texts_and_heads_at_a_time_raise_the_same(tmp_path, narrow):
    """A forward that runs out of memory above its first layers is not counted twice."""
    model = wb.load(tiny_models.save("llama", tmp_path))
    tokens = torch.randint(3, 40, (5, 20), generator=torch.Generator().manual_seed(2))
    present = tokens.unique()
    words = present[torch.randint(len(present), (3, 8, 2), generator=torch.Generator().manual_seed(3))]
    whole, summed = wb.patching.promoted_tokens(model, tokens, words, 4), []

    def runs_out(x, hook):
        summed.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with (
        model.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_q", runs_out)]),
        pytest.warns(FewerRows, match="with 5 rows"),
    ):
        assert torch.equal(wb.patching.promoted_tokens(model, tokens, words, 4), whole)
    assert summed == [5, 2, 2, 1]
    with pytest.raises(TooLarge, match="promoted tokens: .* for one row, more than 20kB: raise memory= to ") as caught:
        wb.patching.promoted_tokens(model, tokens, words, 4, memory="20kB")
    least, went = str(caught.value).split("raise memory= to ")[1].split(",")[0], narrow(model, 9)
    assert torch.equal(wb.patching.promoted_tokens(model, tokens, words, 4, memory=least), whole)
    assert went == [1] * 5


def test_planted_copy_heads_raise_what_they_read():
    model, roles = wb.load("planted-copy"), PLANTED["planted-copy"].roles
    words = torch.tensor([t for t in range(len(model.tokenizer)) if t not in model.tokenizer.all_special_ids])
    rng = torch.Generator().manual_seed(1)
    tokens = words[torch.randint(min(len(words), 40), (2, 80), generator=rng)]
    read = tokens.unique()[:5]
    found = wb.patching.promoted_tokens(model, tokens, read.expand(model.n_layers, model.n_heads, 5), 1)[..., 0].numpy()
    same = (found == read.numpy()).mean(-1)
    assert all(same[h] == 1 for h in roles["copy"]), {h: same[h] for h in roles["copy"]}
    others = {h: same[h] for h in np.ndindex(*same.shape) if h not in roles["copy"]}
    assert sum(share == 0 for share in others.values()) > 5, "heads that copy nothing raise something else"
