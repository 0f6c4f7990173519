"""A config, a name or a loaded model come in alike, and what is wrong is said before a model is loaded."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import chz
import pytest
import tiny_models
from workbench_analyses import retrieval_heads

import workbench as wb
from workbench.cli import main
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput, ModelError
from workbench.run_record import read_run


@chz.chz
class Ask:
    model: str = "llama"
    k: int = 3
    dtype: str = "float32"
    backend: str = "auto"
    trust_remote_code: bool = False
    batch: int = 8
    out: str | None = "runs"


@chz.chz
class AskWithoutBackend:
    model: str = "llama"
    out: str | None = "runs"


def test_a_config_is_taken_as_it_is_and_options_change_it():
    config = Ask(k=5)
    assert entered(Ask, config, {}) == (config, None)
    assert entered(Ask, config, {"k": 7, "out": None}) == (Ask(k=7, out=None), None)
    assert config.k == 5


def test_a_name_writes_nothing_unless_asked():
    assert entered(Ask, "gpt2", {"k": 4}) == (Ask(model="gpt2", k=4, out=None), None)
    assert entered(Ask, "gpt2", {"out": "here"})[0].out == "here"


def test_a_loaded_model_brings_its_name_and_its_backend():
    model = wb.load("planted-copy", backend="chunked")
    config, loaded = entered(Ask, model, {"k": 1})
    assert loaded is model and config == Ask(model="planted-copy", k=1, backend="chunked", out=None)
    assert entered(Ask, model, {"backend": "hooks"})[0].backend == "hooks"
    assert entered(AskWithoutBackend, model, {}) == (AskWithoutBackend(model="planted-copy", out=None), model)
    live = entered(Ask, model.bridge, {})
    assert live[1] is not None and live[1].bridge is model.bridge and live[0].backend == "auto"


def test_a_loaded_model_brings_its_dtype_and_another_is_refused():
    model = wb.load("planted-copy", dtype="float64")
    assert entered(Ask, model, {})[0].dtype == "float64" == entered(Ask, model, {"dtype": "float64"})[0].dtype
    assert entered(Ask, wb.load("planted-copy", dtype="bfloat16").bridge, {})[0].dtype == "bfloat16"
    with pytest.raises(BadInput, match="^dtype=float32: the model is loaded in float64; load it in float32, or leave"):
        entered(Ask, model, {"dtype": "float32"})


def test_a_loaded_model_brings_what_loads_it_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_models.save("llama", tmp_path / "gpt2")  # as a bundled model is called, and one of TransformerLens'
    for given, source in (("./gpt2", "./gpt2"), (Path("gpt2"), "./gpt2"), (tmp_path / "gpt2", str(tmp_path / "gpt2"))):
        model = wb.load(given)
        assert entered(Ask, model, {})[0].model == source and model.name == "gpt2"
        assert wb.load(source).identity() == model.identity()
    there = {"gpt2": "./gpt2", "planted-copy": "planted-copy", "EleutherAI/gpt-neo": "EleutherAI/gpt-neo"}
    for place, source in there.items():
        model.bridge.cfg.model_name = place
        assert entered(Ask, model.bridge, {})[0].model == source
    shutil.rmtree("gpt2")
    model.bridge.cfg.model_name = "gpt2"
    assert wb.load(model.bridge).source == "openai-community/gpt2"


def test_a_scan_of_a_loaded_model_says_the_command_that_makes_it_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {"lengths": (96,), "rounds": 1, "proof": "none"}
    found = retrieval_heads.scan(wb.load("planted-copy", dtype="float64"), **small, out="a")
    words = shlex.split(found.command)
    assert {"model=planted-copy", "dtype=float64"} <= set(words) and found.scores.parameters["dtype"] == "float64"
    assert main([*words[1:], "out=b"]) == 0
    (a,), (b,) = (list((tmp_path / x).iterdir()) for x in "ab")
    assert a.name == b.name and (a / "scores.json").read_bytes() == (b / "scores.json").read_bytes()
    question = read_run(a)["question"]
    assert question == read_run(b)["question"] and question["dtype"] == "float64"
    assert main(["export", str(a), "format=duo-attention", "threshold=.1", "model=planted-copy", "out=c"]) == 0
    assert main(["export", str(a), "format=duo-attention", "threshold=.1", "model=planted-ioi", "out=d"]) == 2


def test_what_is_no_model_is_refused():
    with pytest.raises(ModelError, match="int is no model"):
        entered(Ask, 5, {})
    with pytest.raises(TypeError):
        entered(Ask, "llama", {"kk": 1})


def test_places_are_checked_and_nothing_is_made(tmp_path):
    with pytest.raises(ModelError, match="Did you mean 'llama'"):
        check_cheaply(Ask(model="lama", out=str(tmp_path / "runs")), None)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file"):
        check_cheaply(Ask(out=str(tmp_path / "file" / "runs")), None)
    check_cheaply(Ask(model="llama", out=str(tmp_path / "runs")), None)
    check_cheaply(Ask(model="nowhere", out=None), loaded=object())  # pyright: ignore
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
