"""HeadVis' tree: what its pages and Neuronpedia's loader need stands in it, and it can be read again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.commands.export import Export, run
from workbench.errors import BadInput
from workbench.exporters import export
from workbench.exporters.headvis import read_headvis
from workbench.head_metrics import HeadMetrics, Metric, Text, read_metrics
from workbench.heads import HeadScores
from workbench.runs import Run
from workbench.scores_io import read_scores

LOADER = ("model_name", "dataset_name", "n_sequences", "seq_len", "dtype", "attn_implementation")
"""Keys without which Neuronpedia's loader stops; it looks in the config and in its pipeline_config."""
PAGE = {"model_name", "heads", "n_layers", "n_heads", "n_intervals", "metrics", "metric_descriptions",
        "head_data_pattern", "has_umap", "umap_heads", "custom_plots", "custom_tables", "statistics_display"}  # fmt: skip


def dense(seed: int, texts: int = 3, layers: int = 2, heads: int = 3, n: int = 9):
    """Causal patterns, [texts, layers, heads, n, n]."""
    rng = np.random.default_rng(seed)
    p = rng.random((texts, layers, heads, n, n)) ** 6 * np.tri(n)
    return p / p.sum(-1, keepdims=True)


def metrics(seed: int = 0) -> tuple[HeadMetrics, np.ndarray]:
    p, rng = dense(seed), np.random.default_rng(seed + 1)
    keys = np.argsort(-p, -1, kind="stable")[..., :4]
    texts = tuple(
        Text(tuple(f"t{i % 5}" for i in range(9)), k, np.take_along_axis(x, k, -1))
        for x, k in zip(p, keys, strict=True)
    )
    held = [Metric("induction", "induction", "what it is", rng.random((2, 3)), "induction_score"),
            Metric("previous", "previous token", "the token before", rng.random((2, 3)), "prev_token_score"),
            Metric("entropy/without sinks", "entropy, without sinks", "of the rest", rng.random((2, 3)))]  # fmt: skip
    held[2].values[1, 1] = np.nan
    about = {"dataset_name": "prose", "n_sequences": 3, "seq_len": 9, "dtype": "float32"}
    return HeadMetrics("tiny", tuple(held), texts, 3, about), p


@pytest.fixture
def atlas_run(tmp_path):
    """A run folder as `workbench atlas` leaves it."""
    held, p = metrics()
    with Run.open(tmp_path / "runs", "atlas", "tiny", {"x": 1}) as folder:
        folder.write_json("metrics.json", held.to_json())
        folder.write_tensors("texts.safetensors", held.arrays())
        scores = HeadScores(held.metrics[0].values, "atlas/induction", kv_heads=3)
        from workbench.scores_io import score_files

        for name, text in score_files(scores).items():
            folder.write_text(name, text)
        folder.finish({"validation": "not validated"}, {})
    return folder.path, held, p


def test_metrics_come_back_from_a_run(atlas_run):
    path, held, _ = atlas_run
    again = read_metrics(path)
    for ours, theirs in zip(again.metrics, held.metrics, strict=True):
        assert (ours.name, ours.title, ours.help, ours.headvis) == (
            theirs.name,
            theirs.title,
            theirs.help,
            theirs.headvis,
        )
        np.testing.assert_array_equal(ours.values, theirs.values)
    assert again.texts[1].words == held.texts[1].words and again.about == held.about
    np.testing.assert_array_equal(again.texts[2].keys, held.texts[2].keys)
    (path / "texts.safetensors").write_bytes(b"torn")
    with pytest.raises(BadInput, match="texts.safetensors cannot be read"):
        read_metrics(path)
    (path / "metrics.json").write_text('{"format": "workbench-head-metrics", "version": 9}')
    with pytest.raises(BadInput, match="has layout 9"):
        read_metrics(path)
    with pytest.raises(BadInput, match="run folder of workbench atlas"):
        read_metrics(path / "shards")


def test_the_command_writes_what_pages_and_loader_need(atlas_run, tmp_path):
    path, _, p = atlas_run
    files = run(
        Export(run=str(path), format="headvis", out=str(tmp_path / "tree"), extra=("np_model_id:tiny-1",))
    ).files
    tree = tmp_path / "tree"
    assert {f.relative_to(tree).as_posix() for f in files} >= {"config.json", "scatter_data.json", "heads/L1H2.json"}
    config = json.loads((tree / "config.json").read_text())
    assert set(config) >= PAGE and config["np_model_id"] == "tiny-1"
    flat = {**config, **config["pipeline_config"]}
    assert all(flat.get(key) is not None for key in LOADER)
    rows = json.loads((tree / "scatter_data.json").read_text())
    assert [[r["layer"], r["head"]] for r in rows] == config["heads"] and len(rows) == 6
    assert set(rows[0]) == {"layer", "head", *config["metrics"]}
    assert config["metrics"] == ["induction_score", "prev_token_score", "entropy_without_sinks"]
    assert rows[4]["entropy_without_sinks"] is None  # never NaN, which is no JSON
    head = json.loads((tree / "heads" / "L1H2.json").read_text())
    assert set(head) == {
        "sequences",
        "qk_distance_histogram",
        "top_query_tokens",
        "top_key_tokens",
        "histogram",
        "statistics",
    }
    most = p[:, 1, 2, 1:, 1:].max((1, 2))
    for row in head["sequences"]:
        text, n = p[row["sequence_id"], 1, 2], row["seq_len"]
        assert n == 9 == len(row["tokens"]) and 1 <= row["interval"] <= config["n_intervals"] == 3
        assert row["attention_indices"] == sorted(row["attention_indices"])
        at = np.array(row["attention_indices"])
        np.testing.assert_allclose(
            row["attention_values"], text[at // n, at % n], atol=2e-3
        )  # stored in half precision
        assert row["max_activation"] == pytest.approx(most[row["sequence_id"]], abs=2e-3)
    by_interval = sorted(head["sequences"], key=lambda r: r["interval"])
    assert [r["max_activation"] for r in by_interval] == sorted(r["max_activation"] for r in head["sequences"])
    distance = np.abs(np.arange(9)[:, None] - np.arange(9))
    kept = [x for r in head["sequences"] for x in r["attention_values"]]
    hist = head["qk_distance_histogram"]
    assert len(hist["bin_values"]) == len(hist["bin_edges"]) - 1
    assert sum(hist["bin_values"]) == pytest.approx(sum(kept), abs=1e-3) and hist["bin_values"][0] > 0 < distance.max()
    assert sum(x["weight"] for x in head["top_key_tokens"]) == pytest.approx(sum(kept), abs=1e-2)
    assert len(head["histogram"]["bin_edges"]) == 51 and sum(head["histogram"]["bin_values"]) == 3


def test_a_tree_is_read_again(atlas_run, tmp_path):
    path, held, _ = atlas_run
    export(read_scores(path), "headvis", tmp_path / "tree", run=str(path))
    again = read_headvis(tmp_path / "tree")
    assert again.model == "tiny" and [m.headvis for m in again.metrics][:2] == ["induction_score", "prev_token_score"]
    for ours, theirs in zip(again.metrics, held.metrics, strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-5)
    scores = read_scores(tmp_path / "tree")
    np.testing.assert_allclose(scores.values, held.metrics[0].values, rtol=1e-5)
    assert not scores.verified and scores.method == "imported/headvis/induction_score"
    export(read_scores(path), "headvis", tmp_path / "tree", run=str(path))  # its own files are replaced


def test_files_of_others_are_read_and_their_faults_are_said(tmp_path):
    rows = [
        {"layer": i, "head": j, "previous_token_score": i + j / 4, "logit_std": None}
        for i in range(2)
        for j in range(4)
    ]
    file = tmp_path / "scatter_data.json"
    file.write_text(json.dumps(rows))
    held = read_headvis(file)
    assert held.metrics[0].headvis == "prev_token_score" and held.shape == (2, 4)
    assert np.isnan(held.metrics[1].values).all() and read_scores(file).values[1, 3] == 1.75
    for bad in ([], [{"layer": 0}], [{"layer": -1, "head": 0, "x": 1}], [{"layer": 0, "head": 0, "x": "1"}], {"a": 1}):
        file.write_text(json.dumps(bad))
        with pytest.raises(BadInput, match="no scatter data"):
            read_headvis(file)
    file.write_text(json.dumps([{"layer": 900_000, "head": 900_000, "x": 1}]))
    with pytest.raises(BadInput, match="cannot be meant"):
        read_headvis(file)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architectures": []}')
    with pytest.raises(BadInput, match="another origin"):
        export(HeadScores(np.ones((1, 2)), "x/y"), "headvis", tmp_path / "other")


def test_scores_without_an_atlas_make_a_tree_of_numbers(tmp_path):
    export(HeadScores(np.array([[0.5, np.nan]]), "retrieval/distinct"), "headvis", tmp_path)
    assert json.loads((tmp_path / "scatter_data.json").read_text())[1] == {"layer": 0, "head": 1, "distinct": None}
    assert json.loads((tmp_path / "heads" / "L0H0.json").read_text())["sequences"] == []
