"""The exported mask runs in FlexAttention: against a dense float64 mask, head by head, and on a real tiny model."""

from __future__ import annotations

import json
import types
import warnings

import numpy as np
import pytest
import tiny_models
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import workbench as wb
from workbench.errors import BadInput
from workbench.exporters import export
from workbench.heads import HeadScores
from workbench.policies.setting import Setting
from workbench.policies.streaming import streaming as streaming_scheme
from workbench.scores_io import read_scores
from workbench.simulation.cases import Batch, Case
from workbench.simulation.decoding import decode
from workbench.simulation.reading_prompts import read_by, read_whole

LAYERS, HEADS, KV = 2, 6, 3
SINK, RECENT = 2, 6


def exported(folder, seed: int, sink: int, recent: int, **fields):
    """A random list as a module, and its pattern."""
    values = np.random.default_rng(seed).random((LAYERS, HEADS))
    scores = HeadScores(values, "test", {"note": "'''\\\"{}\n"}, kv_heads=KV, **fields)
    export(scores, "mask-mod", folder, threshold=0.5, sink_size=sink, recent_size=recent)
    space: dict = {}
    exec(compile((folder / "head_mask.py").read_text(), "head_mask.py", "exec"), space)
    return types.SimpleNamespace(**space), values >= 0.5


def dense(q, k, v, full, sink, recent):
    """Naive attention in float64 over a mask written out, [b, h, n, d]."""
    n = q.shape[2]
    out = torch.zeros(q.shape, dtype=torch.float64)
    for h in range(q.shape[1]):
        kh, vh = (x[:, h // (HEADS // KV)].double() for x in (k, v))
        for row in range(n):
            seen = [j for j in range(row + 1) if full[h] or j < sink or row - j < recent]
            weights = (q[:, h, row].double()[:, None] @ kh[:, seen].transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
            out[:, h, row] = (weights @ vh[:, seen])[:, 0]
    return out


@pytest.mark.parametrize(("sink", "recent"), [(0, 1), (4, 16), (3, 500)])
@pytest.mark.parametrize("seed", range(2))
def test_flex_attention_equals_a_dense_mask(seed, sink, recent, tmp_path):
    made, full = exported(tmp_path, seed, sink, recent)
    rng = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, h, 40, 8, generator=rng) for h in (HEADS, KV, KV))
    for layer in range(LAYERS):
        mask = create_block_mask(made.mask_mod(layer), None, HEADS, 40, 40, device="cpu", BLOCK_SIZE=16)
        with warnings.catch_warnings(action="ignore"):  # uncompiled, it says, it is slow
            out = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        assert isinstance(out, torch.Tensor)
        torch.testing.assert_close(out.double(), dense(q, k, v, full[layer], sink, recent), atol=2e-6, rtol=0)
    if recent < 40:
        other = dense(q, k, v, ~full[0], sink, recent)
        assert not torch.allclose(other, dense(q, k, v, full[0], sink, recent), atol=1e-3), "the mask matters"


@pytest.fixture
def served(tmp_path):
    """A tiny model here, a random list, and a Hugging Face model on FlexAttention under the exported masks."""
    from transformers import AutoModelForCausalLM
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    folder = tiny_models.save("llama", tmp_path / "model")
    model = wb.load(folder)
    values = np.random.default_rng(5).random((model.n_layers, model.n_kv_heads))
    values[0] = [0.1, 0.9]
    scores = HeadScores(values, "test", kv_heads=model.n_kv_heads)
    export(scores, "mask-mod", tmp_path, threshold=0.5, sink_size=SINK, recent_size=RECENT, model=model)
    space: dict = {}
    exec(compile((tmp_path / "head_mask.py").read_text(), "head_mask.py", "exec"), space)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    space["check"](plain.config)

    def attend(module, q, k, v, attention_mask, scaling=None, **_):
        n = q.shape[2]
        mask = create_block_mask(
            space["mask_mod"](module.layer_idx), None, q.shape[1], n, n, device="cpu", BLOCK_SIZE=16
        )
        out = flex_attention(q, k, v, block_mask=mask, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2), None

    ALL_ATTENTION_FUNCTIONS["workbench_head_mask"] = attend
    plain.set_attn_implementation("workbench_head_mask")
    return model, values >= 0.5, plain


@torch.no_grad()
def test_the_model_with_exported_masks_equals_windowed_heads(served):
    """FlexAttention under these masks, against the seam's own windows."""
    model, full, plain = served
    tokens = torch.randint(3, 90, (2, 48), generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings(action="ignore"):
        theirs = plain(tokens, use_cache=False).logits
    group = model.n_heads // model.n_kv_heads
    streaming = [(int(i), int(g) * group + x) for i, g in np.argwhere(~full) for x in range(group)]
    with wb.intervene(model, wb.window(streaming, sink=SINK, recent=RECENT)):
        ours = model(tokens)
    assert (theirs - ours).abs().max() <= 1e-5 * ours.abs().max()
    assert (model(tokens) - ours).abs().max() > 1e-2 * ours.abs().max(), "the windows matter"


@torch.no_grad()
@pytest.mark.parametrize("prefill", ["streaming", "full"])
def test_the_model_with_exported_masks_says_what_the_simulator_says(served, prefill):
    """Streaming heads in their window from the first row on; another prefill (the negative control) says other things."""
    model, full, plain = served
    told, rng = 6, np.random.default_rng(3)
    cases = [Case(tuple(rng.integers(3, 90, n + told).tolist()), n, told - 1) for n in (40, 47)]
    setting = Setting(range(model.n_layers), model.n_heads, model.n_kv_heads, 40, 1.0, prefill=prefill)
    scheme = streaming_scheme(setting, dict(enumerate(full)), SINK, RECENT)
    batch = Batch.of(cases, model.device)
    prompts = read_whole(model, batch)[0] if scheme.prefill is None else read_by(model, batch, scheme.prefill)
    ours, _ = decode(model, prompts, scheme)
    for row, case in enumerate(cases):
        with warnings.catch_warnings(action="ignore"):
            theirs = plain(torch.tensor([case.tokens[:-1]]), use_cache=False).logits[0, case.prefix :]
        off = float((theirs - ours[row]).abs().max() / theirs.abs().max())
        assert off <= 1e-5 if prefill == "streaming" else off > 1e-3


def test_the_file_checks_a_config_and_carries_its_provenance(tmp_path):
    made, full = exported(tmp_path, 0, 4, 16)
    config = types.SimpleNamespace(num_hidden_layers=LAYERS, num_attention_heads=HEADS)
    made.check(config)
    config.num_attention_heads = HEADS + 1
    with pytest.raises(ValueError, match="masks of 2 layers x 6 heads, but the model has"):
        made.check(config)
    assert made.PROVENANCE["parameters"]["note"] == "'''\\\"{}\n" and made.PROVENANCE["model"] == "unverified"
    assert made.PROVENANCE["cut"]["full"] == full.sum() and full.astype(int).tolist() == made.FULL
    json.dumps(made.PROVENANCE)


def test_reading_runs_nothing(tmp_path):
    exported(tmp_path, 0, 4, 16)
    file = tmp_path / "copy.py"
    text = (tmp_path / "head_mask.py").read_text()
    file.write_text(text + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    found = read_scores(file, format="mask-mod")
    assert found.parameters["sink_size"] == 4 and not (tmp_path / "ran").exists()
    file.write_text(text.replace("FULL = [", "FULL = [[1] * 10 ** 9,", 1))
    with pytest.raises(BadInput, match="no mask file"):
        read_scores(file, format="mask-mod")
