"""Every format comes back from random and published cuts, with its model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import published
import pytest

from workbench.exporters import discover, export
from workbench.exporters.provenance import PROVENANCE
from workbench.heads import HeadScores, ModelIdentity
from workbench.scores_io import read_scores

LAYERS, HEADS, KV = 5, 12, 4
NEEDS = {"lu-kv": {"context": 4096}, "tensorrt-llm": {"context": 4096}}
CUT_FORMATS = [name for name, exporter in discover().items() if exporter.level]
PER_LAYER = ("tensorrt-llm", "hf-layers")


def scores(seed: int, **fields) -> HeadScores:
    """Random scores of a GQA model whose first two layers are weak."""
    values = np.random.default_rng(seed).random((LAYERS, HEADS))
    values[:2] /= 100
    return HeadScores(values, "test", kv_heads=KV, model=ModelIdentity("tiny", "c0", "w0"), **fields)


def naive_cut(values: np.ndarray, threshold: float, level: str) -> np.ndarray:
    """The reference: a head, or any head of its group, reaches the threshold."""
    return (values if level == "query" else values.reshape(LAYERS, KV, -1).max(-1)) >= threshold


@pytest.mark.parametrize("name", CUT_FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_a_cut_comes_back_with_its_model(name, seed, tmp_path):
    level = discover()[name].level
    given = scores(seed)
    files = export(given, name, tmp_path, threshold=0.8, **NEEDS.get(name, {}))
    again = read_scores(tmp_path)
    full = naive_cut(given.values, 0.8, level)
    if name in PER_LAYER:
        full = np.repeat(full.any(1)[:, None], KV, 1)
    assert again.values.shape == full.shape and again.model == given.model and again.verified
    kept = again.top(int(full.sum())) if name == "lu-kv" else again.at_least(again.parameters.get("threshold", 0.5))
    assert {tuple(h) for h in kept} == {tuple(h) for h in np.argwhere(full)}
    said = json.loads((tmp_path / PROVENANCE).read_text())
    assert said["format"] == name and set(said["files"]) == {f.name for f in files} - {PROVENANCE}
    assert said["shape"] == {"layers": LAYERS, "kv_heads": KV, "query_heads": HEADS}
    assert said["validation"] == "not validated" and said["cut"]["rule"].startswith("score >= 0.8")
    assert said["cut"]["full"] == full.sum() and ("whole layers" in said["cut"]["rule"]) == (name in PER_LAYER)
    assert said["kv_reduction"] == ("max over 3 query heads" if level == "kv" else "none needed")
    if name != "lu-kv":  # and the next generation is the same file
        aside = {"threshold": 0.5, "query_heads": HEADS, **NEEDS.get(name, {})} if name != "qrhead" else {}
        export(replace(again, model=None), name, tmp_path / "again", **aside)
        assert pattern_of(read_scores(tmp_path / "again")) == pattern_of(again)


def pattern_of(found: HeadScores) -> set:
    return {tuple(h) for h in found.at_least(found.parameters.get("threshold", 0.5))}


@pytest.mark.parametrize("name", CUT_FORMATS)
@pytest.mark.parametrize("gates", published.GATES)
def test_published_gates_through_every_format(name, gates, tmp_path):
    given = published.gates(gates)
    heads = 32
    aside = {"query_heads": heads, **NEEDS.get(name, {})}
    options = {"sparsity": 0.75, **aside}
    if name in PER_LAYER:
        options |= {"share": 0.3, "force": True}
    export(given, name, tmp_path, **options)
    again = read_scores(tmp_path)
    expected = np.zeros(given.values.shape, bool)
    for head in given.top(given.values.size // 4):
        expected[head] = True
    if discover()[name].level == "query":
        expected = np.repeat(expected, heads // given.n_heads, 1)
    if name in PER_LAYER:
        expected = np.repeat((expected.mean(1) > 0.3)[:, None], expected.shape[1], 1)
    kept = again.top(int(expected.sum())) if name == "lu-kv" else again.at_least(again.parameters.get("threshold", 0.5))
    assert {tuple(h) for h in kept} == {tuple(h) for h in np.argwhere(expected)}
    assert not again.verified


@pytest.mark.parametrize("name", published.FILES)
def test_published_scores_through_scores_json(name, tmp_path):
    given = published.scores(name)
    export(given, "scores-json", tmp_path)
    assert (tmp_path / "scores.json").read_bytes() == published.score_file(name).read_bytes()
    np.testing.assert_array_equal(read_scores(tmp_path).per_sample, given.per_sample)
