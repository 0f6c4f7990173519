"""Windows of single heads: files and back, the mask in FlexAttention, the simulator against windows by edits."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import tiny_models
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import workbench as wb
from workbench.errors import BadInput
from workbench.exporters.lu_kv import read_curves
from workbench.heads import HeadScores
from workbench.policies.head_windows import entries, head_windows
from workbench.simulation.cases import Batch, Case
from workbench.simulation.costs import costs
from workbench.simulation.decoding import decode
from workbench.simulation.reading_prompts import read_whole
from workbench.smallest_windows import as_scores

CONTEXT, SINK = 64, 2
FOUND = np.array([[4, 64, 8], [16, 4, 64]])
SCORES = as_scores(FOUND, (4, 8, 16, 32), CONTEXT, 0.1, SINK, checked={"fitted windows": {"kl": 0.01}})


def test_files_and_back(tmp_path):
    files = wb.export(SCORES, "head-windows", tmp_path)
    assert {f.name for f in files} == {"head_windows.json", "window_curves.npy", "head_windows.py", "provenance.json"}
    held = json.loads((tmp_path / "head_windows.json").read_text())
    assert held == {"sink_size": 2, "context": 64, "windows": [[4, None, 8], [16, 4, None]]}
    again = wb.read_scores(tmp_path)
    np.testing.assert_array_equal(again.values, FOUND)
    assert (again.kv_heads, again.parameters["context"], again.parameters["sink_size"]) == (3, 64, 2)
    wb.export(again, "head-windows", tmp_path / "second")
    for name in ("head_windows.json", "window_curves.npy", "head_windows.py"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / name).read_bytes()
    wb.export(SCORES, "duo-attention", tmp_path / "duo")  # heads that need everything stay full
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "duo" / "full_attention_heads.tsv"), FOUND == CONTEXT)


def test_curves_prune_what_the_windows_leave_out(tmp_path):
    wb.export(SCORES, "head-windows", tmp_path)
    prune = np.where(FOUND == CONTEXT, 0, 1 - (SINK + FOUND) / CONTEXT)
    curves, known = read_curves(tmp_path / "window_curves.npy"), json.loads((tmp_path / "provenance.json").read_text())
    ratio = round(prune.mean() * 100)
    np.testing.assert_allclose(curves[ratio - 1], prune, atol=0.02)
    np.testing.assert_allclose(curves.mean((1, 2)), np.arange(1, 100) / 100)
    assert known["cut"]["kv_share"] == pytest.approx(1 - prune.mean()) and known["validation"]["fitted windows"]
    assert entries(list(FOUND), SINK, CONTEXT, CONTEXT) == pytest.approx((1 - prune).sum() * CONTEXT)


def test_other_scores_and_damaged_windows_are_refused(tmp_path):
    for scores, said in (
        (HeadScores(np.ones((2, 3)), "copy", kv_heads=3), "workbench fit-windows finds them"),
        (HeadScores(FOUND + 0.5, SCORES.method, SCORES.parameters, kv_heads=3), "damaged"),
        (HeadScores(FOUND, SCORES.method, {"context": 64}, kv_heads=3), "damaged"),
    ):
        with pytest.raises(BadInput, match=said):
            wb.export(scores, "head-windows", tmp_path)
    assert not list(tmp_path.iterdir())
    file = tmp_path / "head_windows.json"
    for windows, said in (
        ([[4, None], [8]], "layer 1 has not as many heads"),
        ([[4, 64]], "layer 0 holds what is no window below 64"),
        ([[4, 0]], "layer 0 holds"),
        ([[4, True]], "layer 0 holds"),
        ([], "no layer in it"),
        ("x", "holds no windows"),
    ):
        file.write_text(json.dumps({"sink_size": 2, "context": 64, "windows": windows}))
        with pytest.raises(BadInput, match=said) as error:
            wb.read_scores(file)
        assert "\n" not in str(error.value)


def test_the_mask_runs_in_flex_attention(tmp_path):
    wb.export(SCORES, "head-windows", tmp_path)
    space: dict = {}
    exec(compile((tmp_path / "head_windows.py").read_text(), "head_windows.py", "exec"), space)
    rng, n, heads = torch.Generator().manual_seed(0), 40, 6
    q, k, v = (torch.randn(2, h, n, 8, generator=rng) for h in (heads, 3, 3))
    for layer in range(2):
        mask = create_block_mask(space["mask_mod"](layer, heads), None, heads, n, n, device="cpu", BLOCK_SIZE=16)
        with warnings.catch_warnings(action="ignore"):
            out = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
        recent = torch.tensor(FOUND[layer]).repeat_interleave(2)[:, None, None]
        seen = (j <= i) & ((j < SINK) | (i - j < recent) | (recent == CONTEXT))
        wide_k, wide_v = (x.double().repeat_interleave(2, 1) for x in (k, v))
        scores = (q.double() @ wide_k.mT / 8**0.5).masked_fill(~seen, float("-inf"))
        torch.testing.assert_close(out.double(), scores.softmax(-1) @ wide_v, atol=2e-6, rtol=0)
    with pytest.raises(ValueError, match="7 query heads cannot share 3"):
        space["mask_mod"](0, 7)


def test_the_simulator_equals_windows_by_edits_and_counts_them(tmp_path):
    """The prompt in full, then every head in a window of its own: decoded here, masked in one forward there."""
    model = wb.load(tiny_models.save("llama", tmp_path))
    layers, kv, group = model.n_layers, model.n_kv_heads, model.n_heads // model.n_kv_heads
    rng = np.random.default_rng(2)
    found = rng.choice([4, 8, 16, CONTEXT], (layers, kv))
    lengths, told = (50, 57), 6
    cases = [Case(tuple(rng.integers(3, 90, n + told).tolist()), n, told - 1) for n in lengths]
    prompts, _ = read_whole(model, Batch.of(cases, model.device))
    scheme = head_windows(dict(enumerate(found)), SINK, CONTEXT)
    logits, tally = decode(model, prompts, scheme)
    for row, case in enumerate(cases):
        edit = None
        for window in (4, 8, 16):
            heads = [(int(i), int(g) * group + x) for i, g in np.argwhere(found == window) for x in range(group)]
            part = wb.window(heads, sink=SINK, recent=window, at="decode")
            edit = part if edit is None else edit + part
        tokens = torch.tensor([case.tokens[:-1]])
        want = model.forward(tokens, edits=[edit], decode_from=[case.prefix]).logits[0, case.prefix :]
        ours = logits[row, : want.shape[0]]
        assert (ours - want).abs().max() <= 2e-5 * want.abs().max()
        plain = model(tokens)[0, case.prefix :]
        assert (ours - plain).abs().max() > 1e-3 * plain.abs().max(), "the windows matter"
    paid = costs(model, tally, scheme, 2 * prompts.keys[0].shape[-1], 4)
    for cost, n in zip(paid, lengths, strict=True):
        steps = [entries(list(found), SINK, CONTEXT, n + t + 1) / (found.size * (n + t + 1)) for t in range(told - 1)]
        assert cost.kept == pytest.approx(np.mean(steps))
