"""Exporters: published patterns byte for byte, cuts and their ties, what is refused, the commands around them."""

from __future__ import annotations

import json
import sys
from subprocess import run as start

import numpy as np
import published
import pytest
from rich.console import Console

from workbench.commands import compare as compare_command
from workbench.commands import export as export_command
from workbench.commands import formats as formats_command
from workbench.commands.export import Export
from workbench.errors import BadInput
from workbench.exporters import discover, export
from workbench.exporters.duo_attention import CONFIG, GATES
from workbench.exporters.provenance import PROVENANCE
from workbench.heads import HeadScores, ModelIdentity
from workbench.scores_io import SCORES, read_scores, score_files, write_scores

NAN = float("nan")


def plain(values, **fields) -> HeadScores:
    return HeadScores(np.array(values, dtype=float), "test", **fields)


def kv(values, **fields) -> HeadScores:
    return plain(values, kv_heads=np.shape(values)[1], **fields)


def parts(folder) -> tuple[np.ndarray, dict, dict]:
    return (
        np.loadtxt(folder / GATES, delimiter="\t", ndmin=2),
        json.loads((folder / CONFIG).read_text()),
        json.loads((folder / PROVENANCE).read_text()),
    )


@pytest.mark.parametrize("name", published.GATES)
def test_published_gates_come_back_byte_for_byte(name, tmp_path):
    source = published.gate_folder(name)
    files = export(published.gates(name), "duo-attention", tmp_path / "again", gates=True)
    assert {path.name for path in files} == {GATES, CONFIG, PROVENANCE}
    assert (tmp_path / "again" / GATES).read_bytes() == (source / GATES).read_bytes()
    config, original = (json.loads((place / CONFIG).read_text()) for place in (tmp_path / "again", source))
    assert config == {key: original[key] for key in ("sink_size", "recent_size")}


@pytest.mark.parametrize(
    ("name", "shape", "negative", "mean", "half", "nearly", "median", "ones"),
    [
        ("Llama-2-7B-32K-Instruct", (32, 32), 274, 0.419, 446, 164, 0.2373, 145),
        ("Mistral-7B-Instruct-v0.2", (32, 8), 5, 0.923, 244, 149, 0.9961, 110),
    ],
)
def test_published_gate_statistics(name, shape, negative, mean, half, nearly, median, ones):
    gates = published.gates(name)
    raw = gates.values
    assert raw.shape == shape and gates.kv_heads == shape[1]
    assert ((raw < 0).sum(), len(gates.at_least(0.5)), len(gates.at_least(0.99))) == (negative, half, nearly)
    assert (round(raw.mean(), 3), round(float(np.median(raw)), 4), (raw == 1).sum()) == (mean, median, ones)
    assert gates.ranking.min() == 0
    assert len(np.unique(gates.ranking)) == len(np.unique(raw.clip(0, 1)))
    assert gates.parameters == {"sink_size": 128, "recent_size": 256, "threshold": 0.5}


@pytest.mark.parametrize("name", published.GATES)
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_cut_is_read_alike_by_loaders_with_noise(name, sparsity, tmp_path):
    """DuoAttention's loader: uniform noise, quantile at the sparsity beside the file, full if above."""
    export(published.gates(name), "duo-attention", tmp_path, sparsity=sparsity)
    pattern, config, provenance = parts(tmp_path)
    assert set(np.unique(pattern)) == {0.0, 1.0} and config["sparsity"] == (pattern == 0).mean() == sparsity
    for seed in range(20):
        noisy = pattern + np.random.default_rng(seed).uniform(0, 1e-6, pattern.shape)
        np.testing.assert_array_equal(noisy >= np.quantile(noisy, config["sparsity"]), pattern == 1)
    cut = provenance["cut"]
    assert cut["full"] + cut["streaming"] == pattern.size and cut["full"] == pattern.sum()


def test_ties_at_the_cut_are_reported(tmp_path):
    """A quarter of Mistral's heads cuts inside the 110 gates that are exactly 1."""
    export(published.gates("Mistral-7B-Instruct-v0.2"), "duo-attention", tmp_path, sparsity=0.75)
    cut = parts(tmp_path)[2]["cut"]
    assert (cut["full"], cut["ties"], cut["margin"]) == (64, 46, 0.0)
    assert "ties by (layer, head)" in cut["rule"]


def test_threshold_cut_and_provenance(tmp_path):
    values = [[0.05, 0.3, 0.0, 0.0], [0.0, 0.02, 0.1, 0.0]]
    scores = HeadScores.from_samples(
        np.array([values, values]), "retrieval/distinct", kv_heads=2, groups=("a", "b"),
        parameters={"seed": 7}, model=ModelIdentity("tiny", "c0", "w0"),
    )  # fmt: skip
    export(scores, "duo-attention", tmp_path, sink_size=4, recent_size=64)
    pattern, config, provenance = parts(tmp_path)
    np.testing.assert_array_equal(pattern, [[1, 0], [0, 1]])
    assert config == {"sink_size": 4, "recent_size": 64, "sparsity": 0.5}
    cut = provenance["cut"]
    assert cut["rule"] == "score >= 0.1" and cut["full"] == 2 and cut["margin"] == pytest.approx(0.08)
    assert provenance["validation"] == "not validated"
    assert provenance["kv_reduction"] == "max over 2 query heads"
    assert provenance["model"] == {"name": "tiny", "config_hash": "c0", "weights": "w0"}
    assert (provenance["method"], provenance["parameters"], provenance["samples"]) == (
        "retrieval/distinct", {"seed": 7}, 2,
    )  # fmt: skip


def test_cut_uses_the_threshold_of_the_scores_unless_told(tmp_path):
    scores = kv([[0.2, 0.4]], parameters={"threshold": 0.3})
    export(scores, "duo-attention", tmp_path)
    np.testing.assert_array_equal(parts(tmp_path)[0], [[0, 1]])
    export(scores, "duo-attention", tmp_path, threshold=0.1, validation={"p": 0.01})
    pattern, _, provenance = parts(tmp_path)
    np.testing.assert_array_equal(pattern, [[1, 1]])
    assert provenance["validation"] == {"p": 0.01} and provenance["cut"]["margin"] is None
    assert provenance["model"] == "unverified"


@pytest.mark.parametrize(("sparsity", "full"), [(0, 4), (1, 0), (0.5, 2), (0.25, 3)])
def test_sparsity_ends(sparsity, full, tmp_path):
    export(kv([[0.01, 0.02, 0.03, 0.04]]), "duo-attention", tmp_path, sparsity=sparsity)
    pattern, config, _ = parts(tmp_path)
    assert pattern.sum() == full and config["sparsity"] == sparsity
    assert (np.diff(pattern[0]) >= 0).all()


def test_ties_follow_the_second_score(tmp_path):
    export(kv([[0.5, 0.5, 0.5]], tiebreak=np.array([[1, 3, 2]])), "duo-attention", tmp_path, sparsity=2 / 3)
    pattern, _, provenance = parts(tmp_path)
    np.testing.assert_array_equal(pattern, [[0, 1, 0]])
    assert provenance["cut"]["ties"] == 0 and "second score" in provenance["cut"]["rule"]


def test_unscored_heads_are_refused_or_kept_full(tmp_path):
    """One unscored query head keeps its whole group full, however low its neighbour scores."""
    scores = plain([[NAN, 0.0, 0.5, 0.4, 0.0, 0.0]], kv_heads=3)
    with pytest.raises(BadInput, match="1 of 6 heads have no score: unscored=full"):
        export(scores, "duo-attention", tmp_path)
    assert not list(tmp_path.iterdir())
    for options in ({"threshold": 0.1}, {"sparsity": 1 / 3}):
        export(scores, "duo-attention", tmp_path, unscored="full", **options)
        pattern, _, provenance = parts(tmp_path)
        np.testing.assert_array_equal(pattern, [[1, 1, 0]])
        assert provenance["cut"]["unscored"] == 1
    export(scores, "duo-attention", tmp_path, unscored="full", gates=True)
    np.testing.assert_allclose(parts(tmp_path)[0], [[1, 0.5, 0]])
    with pytest.raises(BadInput, match="leaves no room"):
        export(scores, "duo-attention", tmp_path, unscored="full", sparsity=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 0.5, "threshold": 0.1}, "sparsity= and threshold= are different ways to cut"),
        ({"sparsity": 0.5, "gates": True}, "sparsity= and gates= are different ways to cut"),
        ({"sparsity": 1.5}, "give 0 to 1"),
        ({"sparsity": float("nan")}, "give 0 to 1"),
        ({"threshold": float("nan")}, "give a number"),
        ({"budget": 1.5, "context": 100}, "give 0 to 1"),
        ({"budget": 0.5}, "give context=TOKENS"),
        ({"recall": 2}, "give 0 to 1"),
        ({"recall": 0.9}, "give model="),
        ({"ranks": 3}, "2 heads a layer cannot be divided"),
        ({"balance": True}, "give ranks="),
        ({"ranks": 2, "balance": True, "gates": True}, "and a cut"),
        ({"unscored": "zero"}, "refuse or full"),
        ({"recent_size": 0}, "recent_size=0"),
        ({"sink_size": -1}, "sink_size=-1"),
        ({"sparsty": 0.5}, "Did you mean 'sparsity'"),
    ],
)
def test_options_that_cannot_be_meant(options, words, tmp_path):
    with pytest.raises(BadInput, match=words) as error:
        export(kv([[0.1, 0.2]]), "duo-attention", tmp_path, **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path):
    scores = kv([[0.1, 0.2]])
    with pytest.raises(BadInput, match="Did you mean 'duo-attention'"):
        export(scores, "duo-atention", tmp_path)
    with pytest.raises(BadInput, match="takes no options"):
        export(scores, "scores-json", tmp_path, sparsity=0.5)
    with pytest.raises(BadInput, match="give kv_heads="):
        export(plain([[0.1, 0.2]]), "duo-attention", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        export(scores, "duo-attention", tmp_path / "file")


def test_files_of_another_origin_are_never_replaced(tmp_path):
    (tmp_path / CONFIG).write_text('{"model_type": "llama"}')
    with pytest.raises(BadInput, match="another origin"):
        export(kv([[0.1, 0.2]]), "duo-attention", tmp_path)
    assert (tmp_path / CONFIG).read_text() == '{"model_type": "llama"}'
    (tmp_path / SCORES).write_text('{"0-0": [1]}')
    with pytest.raises(BadInput, match="another origin"):
        export(kv([[0.1, 0.2]]), "scores-json", tmp_path)
    assert (tmp_path / SCORES).read_text() == '{"0-0": [1]}'


@pytest.mark.parametrize(
    ("table", "config", "words"),
    [
        ("1\t0\n1\n", "{}", f"{GATES}:2: 1 columns, where line 1 has 2"),
        ("1\t0\n1\t0\t1\n", "{}", f"{GATES}:2: 3 columns"),
        ("1\t0\n\n1\t0\n", "{}", f"{GATES}:2: 1 columns"),
        ("1\t0\n1\tx\n", "{}", f"{GATES}:2: not tab-separated numbers"),
        ("", "{}", "no table of gates"),
        ("1\t0\nnan\t1\n", "{}", f"{GATES}:2: holds NaN"),
        ("1\t0\ninf\t1\n", "{}", f"{GATES}:2: holds NaN or infinity"),
        ("1\t0\n", None, "is missing"),
        ("1\t0\n", "{}", "no whole number for sink_size"),
        ("1\t0\n", '{"sink_size": 1, "recent_size": "x"}', "no whole number for recent_size"),
        ("1\t0\n", "[]", "not a score file"),
    ],
)
def test_damaged_patterns_in_one_line(table, config, words, tmp_path):
    (tmp_path / GATES).write_text(table)
    if config is not None:
        (tmp_path / CONFIG).write_text(config)
    with pytest.raises(BadInput, match=words) as error:
        read_scores(tmp_path)
    assert "\n" not in str(error.value)


def test_folders_in_two_formats_are_not_guessed(tmp_path):
    export(kv([[0.1, 0.2]]), "duo-attention", tmp_path)
    export(kv([[0.1, 0.2]]), "scores-json", tmp_path)
    with pytest.raises(BadInput, match="several formats"):
        read_scores(tmp_path)
    assert read_scores(tmp_path / GATES).method == "imported/duo-attention"
    assert read_scores(tmp_path / SCORES).method == "test"


@pytest.mark.parametrize("seed", range(4))
def test_every_format_reads_what_it_wrote(seed, tmp_path):
    rng = np.random.default_rng(seed)
    scores = HeadScores.from_samples(rng.random((5, 2, 6)), "test", kv_heads=3, groups=tuple("aabbc"))
    export(scores, "scores-json", tmp_path / "scores")
    again = read_scores(tmp_path / "scores")
    np.testing.assert_array_equal(again.per_sample, scores.per_sample)
    assert (again.groups, again.kv_heads, again.method) == (scores.groups, 3, "test")
    export(scores, "duo-attention", tmp_path / "duo", gates=True)
    np.testing.assert_array_equal(read_scores(tmp_path / "duo").values, scores.to_kv_heads().values)


ALL = {
    "duo-attention", "golden-stick", "head-windows", "headvis", "hf-layers", "kvpress", "lserve", "lu-kv", "mask-mod",
    "mindie", "minference", "omni-attention", "qrhead", "rtp-llm", "scores-json", "tensorrt-llm",
}  # fmt: skip


def test_a_new_format_is_a_new_file(tmp_path, monkeypatch):
    """A module with an EXPORTER, dropped into the package, is listed, written and read; nothing else changes."""
    from workbench import exporters

    assert set(discover()) == ALL
    for name, exporter in discover().items():
        assert name == exporter.name and exporter.help and exporter.marker and "\n" not in exporter.help
    (tmp_path / "plain_counts.py").write_text(
        "from workbench.exporters import Exporter, Written\n"
        "from workbench.heads import HeadScores\n"
        "def write(split, *, mark: str = 'x'):\n"
        "    return Written({'counts.txt': (mark + ' '.join(map(str, split.full.sum(1)))).encode()})\n"
        "def read(path, shape):\n"
        "    return HeadScores([[float(n)] for n in path.read_text()[1:].split()], 'counts')\n"
        "EXPORTER = Exporter('counts', 'heads a layer', 'counts.txt', write, read, level='kv')\n"
    )
    monkeypatch.setattr(exporters, "__path__", [*exporters.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "workbench.exporters.plain_counts", None)
    monkeypatch.delitem(sys.modules, "workbench.exporters.plain_counts")
    assert set(discover()) == ALL | {"counts"}
    words = Export(run="x", format="counts", extra=("mark:y",))
    assert export_command._extra(words.extra, discover()["counts"]) == {"mark": "y"}
    files = export(kv([[0.1, 0.2], [0, 0]]), "counts", tmp_path / "out", mark="y")
    assert files[0].read_text() == "y2 0" and parts_of(tmp_path / "out")["cut"]["full"] == 2
    np.testing.assert_array_equal(read_scores(tmp_path / "out").values, [[2], [0]])
    assert any(row["extra"] == ("mark",) for row in formats_command.run(formats_command.Formats()).summary()["formats"])


def parts_of(folder) -> dict:
    return json.loads((folder / PROVENANCE).read_text())


def run_folder(tmp_path, validation="not validated"):
    """A finished run as the scan leaves it: run.json, scores.json and its side-car."""
    folder = tmp_path / "scan-heads-tiny-0a"
    folder.mkdir()
    scores = HeadScores.from_samples(np.array([[[0.5, 0.0, 0.0, 0.2]]] * 2), "retrieval/distinct", kv_heads=2)
    for name, text in score_files(scores).items():
        (folder / name).write_text(text)
    record = {"schema": 1, "question": {}, "summary": {"validation": validation}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_export_command_writes_into_the_run(tmp_path):
    folder = run_folder(tmp_path)
    result = export_command.run(Export(run=str(folder), format="duo-attention", threshold=0.3))
    assert [path.parent for path in result.files] == [folder / "duo-attention"] * 3
    np.testing.assert_array_equal(parts(folder / "duo-attention")[0], [[1, 0]])
    assert result.summary()["provenance"]["validation"] == "not validated"
    json.dumps(result.summary())
    console = Console(width=200)
    with console.capture() as shown:
        console.print(result)
    assert "score >= 0.3" in shown.get() and "not validated" in shown.get()


def test_export_command_passes_the_causal_check_on(tmp_path):
    folder = run_folder(tmp_path, validation={"p": 0.005})
    result = export_command.run(Export(run=str(folder), format="duo-attention", out=str(tmp_path / "out")))
    assert result.provenance["validation"] == {"p": 0.005}
    assert (tmp_path / "out" / GATES).is_file()


def test_export_command_of_a_file_writes_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scores(plain([[0.5, 0.0]]), tmp_path / "model.json")
    export_command.run(Export(run="model.json", format="duo-attention", kv_heads=2))
    assert (tmp_path / "model-duo-attention" / GATES).is_file()
    with pytest.raises(BadInput, match="scores-json has no sparsity="):
        export_command.run(Export(run="model.json", format="scores-json", sparsity=0.5))


def test_compare_and_formats_commands(tmp_path):
    folder = run_folder(tmp_path)
    found = compare_command.run(compare_command.Compare(a=str(folder), b=str(folder), k=2))
    assert found.summary()["pearson"] == pytest.approx(1) and found.overlap == 2
    rows = formats_command.run(formats_command.Formats()).summary()["formats"]
    assert {row["name"] for row in rows} == ALL
    assert {row["name"]: (row["file"], row["heads"], row["extra"]) for row in rows}["lserve"] == (
        GATES,
        "kv",
        ("page",),
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"extra": ("pages:3",)}, "takes name:value of page"),
        ({"extra": ("page",)}, "takes name:value of page"),
        ({"extra": ("page:x",)}, "not a whole number"),
        ({"extra": ("page:100",)}, "multiples of its page size, 100"),
    ],
)
def test_options_of_one_format_alone(words, said, tmp_path):
    folder = run_folder(tmp_path)
    with pytest.raises(BadInput, match=said):
        export_command.run(Export(run=str(folder), format="lserve", **words))
    assert export_command.run(Export(run=str(folder), format="lserve", extra=("page:128",))).files


def test_commands_import_nothing_heavy():
    code = (
        "import sys, workbench.commands.compare, workbench.commands.export, workbench.commands.formats\n"
        "print([m for m in ('torch', 'transformers', 'pandas', 'scipy', 'plotly', 'numpy') if m in sys.modules])"
    )
    assert start([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
