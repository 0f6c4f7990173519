"""Formats as others write them, and damaged, oversized or hostile files: one line each, nothing run."""

from __future__ import annotations

import io
import json
import os
import pickle

import numpy as np
import pytest

from workbench.commands import compare as compare_command
from workbench.errors import BadInput
from workbench.exporters import export
from workbench.exporters.lu_kv import CURVES
from workbench.heads import HeadScores
from workbench.scores_io import read_scores


def write(path, value) -> None:
    """A hand-written file: JSON, YAML text, bytes, or a torch file."""
    import torch

    if path.suffix == ".pt":
        torch.save(value, path)
    elif isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))


LIST = {"layers": 2, "kv_heads": 3}
QUERY = {"layers": 2, "heads": 3}
SIZES = {"sink_token_num": 4, "swa_token_num": 8192, "seqlen_threshold": 16384}
LINES = "kv_cache_config:\n  max_attention_window: [512, 99, 99]\n"
QRHEAD = "attn_head_set: '1-2,0-1'\nmodel_base_class: x\nmodel_name_or_path: y\n"
STREAM = [{"0": ["stream_llm", 30, 800, 0.9], "2": ["block_sparse", 100, 100, 1]}, {"1": ["stream_llm", 1, 2, 1.0]}]
DETECTED = [["1-2", 0.7], ["0-1", 0.2], ["0-0", -0.1]]
HYBRID = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 9}
FOREIGN = {
    "model_config.json": (
        {"num_hidden_layers": 2, "headwise_config": {**SIZES, "1": [0, 0, 1], "0": [1, 0, 0]}},
        [[1, 0, 0], [0, 0, 1]],
        {},
    ),
    "win.pt": ({"prefix_matching": {1: [0]}, "copying_matching": {0: [2, 1]}}, [[0, 1, 1], [1, 0, 0]], LIST),
    "head.pt": ({"prefix_matching": {1: [0, 2]}, "copying": {1: [2]}}, [[0, 0, 0], [1, 0, 1]], LIST),
    "razor.json": ({"1": [0, 2]}, [[0, 0, 0], [1, 0, 1]], LIST),
    "Some_model.json": (STREAM, [[0, 1, 1], [1, 0, 1]], {}),
    "some_qr_head.yaml": (QRHEAD, [[0, 0.5, 0], [0, 0, 1]], QUERY),
    "gemma.json": (
        {**HYBRID, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3},
        [[0] * 3, [1] * 3],
        {},
    ),
    "every.yml": ("attn_head_set: full_heads", [[1, 1, 1], [1, 1, 1]], QUERY),
    "detected.json": (DETECTED, [[-0.1, 0.2, np.nan], [np.nan, np.nan, 0.7]], {}),
    "trtllm_kv_windows.yaml": (LINES, [[1, 1], [0, 0], [0, 0], [1, 1]], {"layers": 4, "kv_heads": 2}),
    "hybrid.json": (HYBRID, [[0, 0], [1, 1]], {"kv_heads": 2}),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_as_others_write_them(name, tmp_path):
    held, expected, shape = FOREIGN[name]
    write(tmp_path / name, held)
    found = read_scores(tmp_path / name, shape.get("kv_heads"), layers=shape.get("layers"), heads=shape.get("heads"))
    np.testing.assert_array_equal(found.values, expected)
    assert not found.verified
    if shape:
        with pytest.raises(BadInput, match="does not say how many there are"):
            read_scores(tmp_path / name)


def test_a_list_takes_its_size_from_its_partner(tmp_path):
    rng = np.random.default_rng(7)
    export(HeadScores(rng.random((4, 6)), "test", kv_heads=6), "scores-json", tmp_path / "run")
    write(tmp_path / "list.json", {"3": [1, 5]})
    config = {"a": str(tmp_path / "run"), "b": str(tmp_path / "list.json"), "k": 2, "threshold": 0.5}
    for a, b in ((config["a"], config["b"]), (config["b"], config["a"])):
        found = compare_command.run(compare_command.Compare(**{**config, "a": a, "b": b}))
        assert found.n_heads == 24


DAMAGED = [
    ("headwise_config.json", {"headwise_config": {"0": [1, 0], "2": [1, 0]}}, "0 to the last"),
    ("headwise_config.json", {"headwise_config": {"0": [1, 0], "1": [1]}}, "layer 1 has 1 heads, layer 0 has 2"),
    ("headwise_config.json", {"headwise_config": {"0": [1, 2]}}, "no list of 0 and 1"),
    ("headwise_config.json", {"headwise_config": {"0": [True]}}, "no list of 0 and 1"),
    ("headwise_config.json", {"headwise_config": {}}, "no layer in it"),
    ("headwise_config.json", {}, "holds no headwise_config"),
    ("retrieval.json", {"2": [0]}, "no layer of 0 to 1"),
    ("retrieval.json", {"0": [3]}, "no list of heads from 0 to 2"),
    ("retrieval.json", {"0": [True]}, "no list of heads"),
    ("retrieval.json", [1], "no list of heads"),
    ("head.pt", [1, 2], "holds a list, not a plain dict"),
    ("head.pt", {"weights": {0: [1]}}, "no head list of MindIE"),
    ("head.pt", {"prefix_matching": [1]}, "no head list of MindIE"),
    ("head.pt", {"prefix_matching": {0: 1}}, "no list of heads"),
    ("minference.json", [], "no MInference config"),
    ("minference.json", [{"x": ["stream_llm", 1, 2, 3]}], "'x' is no head"),
    ("minference.json", [{"0": ["dense", 1, 2, 3]}], "no \\[type, a, b, score\\]"),
    ("minference.json", [{"0": ["stream_llm", -1, 2, 3]}], "layer 0, head 0"),
    ("minference.json", [{"7": ["stream_llm", 1, 2, 3]}], "names head 7: heads=3 has none"),
    ("qrhead.yaml", "attn_head_set: [1]", "no text attn_head_set"),
    ("qrhead.yaml", "attn_head_set: '0-1,0-1'", "twice"),
    ("qrhead.yaml", "attn_head_set: '0-1,2-0'", "no head 2-0"),
    ("qrhead.yaml", "attn_head_set: '0-1,x'", "'x' is no layer-head"),
    ("qrhead.yaml", "!!python/object/apply:os.system ['true']", "no YAML"),
    ("qrhead.yaml", "a: [", "no YAML"),
    ("trtllm_kv_windows.yaml", "kv_cache_config: 3", "no YAML with kv_cache_config"),
    ("trtllm_kv_windows.yaml", "kv_cache_config: {max_attention_window: [0]}", "no list of windows"),
    ("trtllm_kv_windows.yaml", "kv_cache_config: {max_attention_window: [1, 2, 3]}", "the model has 2"),
    ("layer_types.json", {"layer_types": ["full"]}, "no layer_types"),
    ("layer_types.json", {"layer_types": ["full_attention"]}, "has 1 layers, the model has 2"),
    ("omni_attention.1_is_streaming.tsv", "1\t0\n0\t2\n", "no table of 0 and 1"),
    ("omni_attention.1_is_streaming.tsv", "1\t0\n0\n", "tsv:2: 1 columns"),
    ("lukv_curves.npy", b"nothing", "no array of curves"),
    ("head_mask.py", "import os\nos.abort()\n", "it needs SINK, RECENT, FULL"),
    ("head_mask.py", "SINK = open('x')\n", "no mask file"),
    ("head_mask.py", "SINK = 1\nRECENT = 2\nFULL = [[1, 0], [1]]\n", "layer 1 has 1 heads"),
    ("head_mask.py", "SINK = 'a'\nRECENT = 2\nFULL = [[1, 0]]\n", "no numbers of tokens"),
    ("head_mask.py", "FULL = (", "no mask file"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "held", "words"), DAMAGED)
def test_damaged_files_in_one_line(name, held, words, tmp_path):
    write(tmp_path / name, held)
    with pytest.raises(BadInput, match=words) as error:
        read_scores(tmp_path / name, 3, layers=2, heads=3)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


class Evil:
    """What a pickle may do when it is loaded."""

    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL"],)


@pytest.mark.parametrize("file", ["head.pt", "lukv_curves.npy"])
def test_nothing_is_unpickled(file, tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("EVIL", str(tmp_path / "made"))
    (tmp_path / "bare").write_bytes(pickle.dumps({"prefix_matching": Evil()}))
    torch.save({"prefix_matching": Evil()}, tmp_path / "zipped")
    np.save(tmp_path / "array.npy", np.array([[[Evil()]]] * 99, dtype=object), allow_pickle=True)
    for made in ("bare", "zipped", "array.npy"):
        (tmp_path / made).rename(tmp_path / file)
        with pytest.raises(BadInput):
            read_scores(tmp_path / file, 3, layers=2)
    assert not (tmp_path / "made").exists()
    torch.save({"prefix_matching": {0: torch.zeros(2)}}, tmp_path / "head.pt")
    with pytest.raises(BadInput, match="makes more than numbers"):
        read_scores(tmp_path / "head.pt", 3, layers=2)


@pytest.mark.parametrize(
    "name", ["scores.json", "full_attention_heads.tsv", "head.pt", "qrhead.yaml", "lukv_curves.npy"]
)
def test_files_of_absurd_size_are_not_read(name, tmp_path):
    with open(tmp_path / name, "wb") as stream:
        stream.truncate(2**28 + 2)
    with pytest.raises(BadInput, match="larger than .* MiB"):
        read_scores(tmp_path / name, 3, layers=2, heads=3)


def test_arrays_that_promise_more_than_they_hold(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (99, 1 << 20, 1 << 10)}
    )
    (tmp_path / CURVES).write_bytes(header.getvalue() + b"\0" * 64)
    with pytest.raises(BadInput, match="no array of curves"):
        read_scores(tmp_path)
