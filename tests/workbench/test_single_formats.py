"""What is particular to one format: curves, polarity, layers, merged configs, loaders."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import yaml

from workbench.errors import BadInput
from workbench.exporters import export
from workbench.exporters.lu_kv import CURVES, curves, read_curves
from workbench.exporters.minference import DEFAULT, ReadPattern, read_patterns, text
from workbench.exporters.provenance import PROVENANCE
from workbench.heads import HeadScores, ModelIdentity
from workbench.scores_io import read_scores

LAYERS, HEADS, KV = 5, 12, 4
PER_LAYER = ("tensorrt-llm", "hf-layers")


def scores(seed: int, **fields) -> HeadScores:
    """Random scores of a GQA model whose first two layers are weak."""
    values = np.random.default_rng(seed).random((LAYERS, HEADS))
    values[:2] /= 100
    return HeadScores(values, "test", kv_heads=KV, model=ModelIdentity("tiny", "c0", "w0"), **fields)


@pytest.mark.parametrize("seed", range(3))
def test_curves_mean_every_ratio_and_pass_through_the_budgets(seed, tmp_path):
    rng = np.random.default_rng(seed)
    budgets = rng.integers(0, 1001, (4, 3))
    prune = 1 - budgets / 1000
    made = curves(prune)
    np.testing.assert_allclose(made.mean((1, 2)), np.arange(1, 100) / 100)
    assert (np.diff(made, axis=0) >= -1e-12).all() and made.min() >= 0 and made.max() <= 1 + 1e-12
    nearest = int(np.clip(round(prune.mean() * 100), 1, 99))
    np.testing.assert_allclose(made[nearest - 1], prune, atol=0.02)
    for flat in (np.zeros((2, 2)), np.ones((2, 2))):
        np.testing.assert_allclose(curves(flat).mean((1, 2)), np.arange(1, 100) / 100)
    np.save(tmp_path / CURVES, made)
    np.testing.assert_array_equal(read_curves(tmp_path / CURVES), made)
    np.save(tmp_path / CURVES, made + 0.5)
    with pytest.raises(BadInput, match="outside 0…1"):
        read_scores(tmp_path)


def test_curves_of_a_cut_keep_exactly_the_window(tmp_path):
    export(
        HeadScores([[0.9, 0.0, 0.0, 0.8]], "t", kv_heads=4), "lu-kv", tmp_path, sink_size=4, recent_size=60, context=640
    )
    made = read_curves(tmp_path / CURVES)  # two of four heads prune 90 %: 45 % of all entries
    np.testing.assert_allclose(made[44], [[0, 0.9, 0.9, 0]], atol=1e-12)
    assert (made[:45, 0, [0, 3]] == 0).all() and (made[45:, 0, 0] > 0).all()
    with pytest.raises(BadInput, match="give context="):
        export(HeadScores([[0.9, 0.0]], "t", kv_heads=2), "lu-kv", tmp_path / "x")


def test_minference_tables_come_back_and_defaults_fill_gaps(tmp_path):
    rng = np.random.default_rng(3)
    kinds = ("vertical_and_slash", "stream_llm", "block_sparse")
    rows = [
        [ReadPattern(kinds[i], int(a), int(b), float(s)) for i, a, b, s in zip(*x, strict=True)]
        for x in zip(rng.integers(0, 3, (4, 6)), *rng.integers(1, 9999, (2, 4, 6)), rng.random((4, 6)), strict=True)
    ]
    (tmp_path / "m.json").write_bytes(text(rows))
    assert read_patterns(tmp_path / "m.json") == rows
    (tmp_path / "m.json").write_text(json.dumps([{}, {"1": ["stream_llm", 1, 2, 3]}]))
    assert read_patterns(tmp_path / "m.json", 3)[0] == [ReadPattern(*DEFAULT)] * 3


def test_minference_patterns_of_a_cut(tmp_path):
    given = HeadScores([[0.9, 0.2], [0.0, 0.7]], "t", kv_heads=1)
    export(given, "minference", tmp_path, threshold=0.5, sink_size=3, recent_size=17)
    far, near = ["vertical_and_slash", 1000, 6096], ["stream_llm", 3, 17, 0.0]
    held = json.loads((tmp_path / "minference.json").read_text())
    assert held == [{"0": [*far, 0.9], "1": near}, {"0": near, "1": [*far, 0.7]}]
    export(given, "minference", tmp_path / "v", threshold=0.5, exact=4096, vllm=True)
    held = json.loads((tmp_path / "v" / "sparse_attention_config.json").read_text())
    assert held[0]["0"] == ["vertical_and_slash", 4096, 4096, 0.9]
    assert "V0" in json.loads((tmp_path / "v" / PROVENANCE).read_text())["notes"][0]
    np.testing.assert_array_equal(read_scores(tmp_path / "v" / "sparse_attention_config.json").values, [[1, 0], [0, 1]])


def test_omni_attention_is_the_opposite_of_duo_attention(tmp_path):
    given = scores(0)
    export(given, "omni-attention", tmp_path / "omni", sparsity=0.5)
    export(given, "duo-attention", tmp_path / "duo", sparsity=0.5)
    file = tmp_path / "omni" / "omni_attention.1_is_streaming.tsv"
    assert set(file.read_text()) == set("01\t\n")
    duo = np.loadtxt(tmp_path / "duo" / "full_attention_heads.tsv", delimiter="\t")
    np.testing.assert_array_equal(np.loadtxt(file, delimiter="\t") + duo, np.ones((LAYERS, KV)))
    nameless = tmp_path / "pattern.tsv"
    nameless.write_bytes(file.read_bytes())
    with pytest.raises(BadInput):
        read_scores(nameless)
    np.testing.assert_array_equal(read_scores(nameless, format="omni-attention").values, duo)
    with pytest.raises(BadInput, match="fixed at 128"):
        export(given, "omni-attention", tmp_path / "x", sink_size=4)


@pytest.mark.parametrize("name", PER_LAYER)
def test_layers_are_refused_where_a_full_head_would_be_cut(name, tmp_path):
    given = HeadScores([[0.9, 0.0], [0.0, 0.0], [0.9, 0.9]], "t", kv_heads=2)
    export(given, name, tmp_path / "a", threshold=0.5, context=9999)
    np.testing.assert_array_equal(read_scores(tmp_path / "a").values, [[1, 1], [0, 0], [1, 1]])
    assert "1 of 6 heads keep more" in json.loads((tmp_path / "a" / PROVENANCE).read_text())["notes"][0]
    with pytest.raises(BadInput, match=r"cuts 1 full heads \(L0H0\): force=true"):
        export(given, name, tmp_path / "b", threshold=0.5, context=9999, share=0.5)
    export(given, name, tmp_path / "b", threshold=0.5, context=9999, share=0.5, force=True)
    assert "full heads cut: L0H0" in json.loads((tmp_path / "b" / PROVENANCE).read_text())["notes"][0]
    with pytest.raises(BadInput, match="every layer holds a full head"):
        export(given, name, tmp_path / "c", sparsity=0, context=9999)


def test_yaml_files_are_yaml_for_others(tmp_path):
    given = scores(2)
    export(given, "tensorrt-llm", tmp_path / "t", threshold=0.8, context=4096, sink_size=4, recent_size=60)
    config = yaml.safe_load((tmp_path / "t" / "trtllm_kv_windows.yaml").read_text())["kv_cache_config"]
    assert set(config["max_attention_window"]) == {4096, 64} and config["sink_token_length"] == 4
    export(given, "qrhead", tmp_path / "q", sparsity=0.9, base_class='Llama: "x"\n!y')
    config = yaml.safe_load((tmp_path / "q" / "qrhead.yaml").read_text())
    assert config["model_base_class"] == 'Llama: "x"\n!y' and config["model_name_or_path"] == "tiny"
    assert config["attn_head_set"].split(",") == [f"{i}-{j}" for i, j in given.top(6)]


@pytest.mark.parametrize(("name", "key"), [("rtp-llm", "headwise_config"), ("hf-layers", "layer_types")])
def test_a_models_config_is_merged_never_overwritten(name, key, tmp_path):
    given, file = scores(1), tmp_path / "config.json"
    config = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV, "model_type": "x"}
    file.write_text(json.dumps(config))
    export(given, name, tmp_path / "out", threshold=0.8, config=str(file))
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {k: made[k] for k in config} == config and made[f"{key}_provenance"]["model"]["name"] == "tiny"
    assert read_scores(tmp_path / "out" / "config.json", KV).values.shape[0] == LAYERS
    with pytest.raises(BadInput, match=f"holds {key} already"):
        export(given, name, tmp_path / "x", threshold=0.8, config=str(tmp_path / "out" / "config.json"))
    with pytest.raises(BadInput, match="another origin"):
        export(given, name, tmp_path, threshold=0.8, config=str(file))
    file.write_text(json.dumps({**config, "num_hidden_layers": 7}))
    with pytest.raises(BadInput, match="has 7 layers × 12 heads.*another model's"):
        export(given, name, tmp_path / "x", threshold=0.8, config=str(file))


def test_provenance_of_another_file_is_refused(tmp_path):
    export(scores(0), "mindie", tmp_path, sparsity=0.5)
    assert read_scores(tmp_path).model == ModelIdentity("tiny", "c0", "w0")
    (tmp_path / "head.pt").write_bytes(b"other")
    with pytest.raises(BadInput, match="has changed since provenance.json was written"):
        read_scores(tmp_path)
    export(scores(0), "omni-attention", tmp_path / "omni", sparsity=0.5)
    for foreign in ("[]", "{", '{"files": 3}', '{"origin": "somebody"}'):  # others use the name, too
        (tmp_path / "omni" / PROVENANCE).write_text(foreign)
        assert not read_scores(tmp_path / "omni").verified
        with pytest.raises(BadInput, match="another origin"):
            export(scores(0), "omni-attention", tmp_path / "omni", sparsity=0.25)


def test_symlinked_folders_are_followed(tmp_path):
    export(scores(0), "duo-attention", tmp_path / "deep" / "nested", sparsity=0.5)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "nested", target_is_directory=True)
    (tmp_path / "twice").symlink_to("link")
    np.testing.assert_array_equal(read_scores(tmp_path / "twice").values, read_scores(tmp_path / "deep/nested").values)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match="does not exist"):
        read_scores(tmp_path / "loop")


def test_scores_per_kv_head_need_query_heads_for_query_formats(tmp_path):
    gates = HeadScores([[0.9, 0.0]], "imported", kv_heads=2, clip=(0, 1))
    with pytest.raises(BadInput, match="query_heads= \\(a multiple of 2"):
        export(gates, "mask-mod", tmp_path, threshold=0.5)
    with pytest.raises(BadInput, match="query_heads=5 does not fit"):
        export(gates, "mask-mod", tmp_path, threshold=0.5, query_heads=5)
    export(gates, "mask-mod", tmp_path, threshold=0.5, query_heads=6)
    np.testing.assert_array_equal(read_scores(tmp_path).values, [[1, 1, 1, 0, 0, 0]])
    assert (
        json.loads((tmp_path / PROVENANCE).read_text())["kv_reduction"]
        == "each key-value head repeated for its 3 query heads"
    )
    known = replace(gates, model=ModelIdentity("mha", "c", "w"))
    export(known, "mask-mod", tmp_path / "mha", threshold=0.5)
    np.testing.assert_array_equal(read_scores(tmp_path / "mha").values, [[1, 0]])


def test_the_kvpress_loader_gives_the_pattern_to_the_press(tmp_path, monkeypatch):
    """With a stand-in for kvpress: its base class takes a ratio and asks load_attention_pattern."""
    from dataclasses import dataclass

    @dataclass
    class Base:
        head_compression_ratio: float = 0.0

    monkeypatch.setitem(sys.modules, "kvpress", types.SimpleNamespace(DuoAttentionPress=Base))
    given = scores(4)
    export(given, "kvpress", tmp_path, sparsity=0.5, sink_size=4, recent_size=16)
    space: dict = {"__file__": str(tmp_path / "kvpress_loader.py"), "__name__": "kvpress_loader"}
    exec(compile((tmp_path / "kvpress_loader.py").read_text(), "kvpress_loader.py", "exec"), space)
    press = space["press"]()
    assert press.head_compression_ratio == 0.5 and isinstance(press, Base)

    def model(layers):
        return types.SimpleNamespace(config=types.SimpleNamespace(num_hidden_layers=layers, num_key_value_heads=KV))

    sink, recent, pattern = press.load_attention_pattern(model(LAYERS))
    assert (sink, recent) == (4, 16)
    lowest = np.argsort(pattern.ravel())[: round(pattern.size * press.head_compression_ratio)]  # what the press does
    streaming = np.zeros(pattern.size, bool)
    streaming[lowest] = True
    np.testing.assert_array_equal(streaming.reshape(pattern.shape), read_scores(tmp_path).values == 0)
    with pytest.raises(ValueError, match="this model has"):
        press.load_attention_pattern(model(LAYERS + 1))
