"""A model that only a run folder names: what is on this machine is loaded, and the hub is not asked for any other."""

from __future__ import annotations

import json
import socket

import pytest
import tiny_models
from huggingface_hub import constants
from sample_circuits import IOI, circuit_of

import workbench as wb
from workbench.cli import main
from workbench.parts import PLAN
from workbench.sources import check_hub
from workbench.unasked import named_by

HUB_ID = "someone/tiny"
SMALL = ["context=128", "samples=2"]


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Addresses that somebody wanted to reach; Hugging Face is not told to stay offline, and its cache is empty."""
    tried: list[object] = []

    def refuse(*words, **_):
        tried.append(words)
        raise OSError("blocked")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    check_hub.cache_clear()
    yield tried
    check_hub.cache_clear()


def cached(tmp_path):
    """The tiny model lies in the cache, as if it had been fetched once."""
    home = tmp_path / "cache" / f"models--{HUB_ID.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("c" * 40)
    snapshot = home / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    return tiny_models.save("llama", snapshot)


def run_of(folder, model, command="scan-heads"):
    folder.mkdir()
    (folder / "run.json").write_text(
        json.dumps({"schema": 1, "command": command, "model": model, "question": {"model": model, "seed": 0}})
    )
    return folder


def scores_of(folder, model):
    run_of(folder, model)
    values = {f"{layer}-{head}": [head / 8] for layer in range(3) for head in range(8)}
    (folder / "scores.json").write_text(json.dumps(values))
    return str(folder)


def circuits_of(home, model):
    for name in "ab":
        run_of(home / name, model, "trace-circuit")
        circuit_of(IOI).save(home / name / "circuit.json")
    return [str(home / name) for name in "ab"]


def shard_of(folder, model):
    run_of(folder, model)
    plan = {"shard": "0/1", "units": [], "of_units": 0, "options": {"model": model}, "made_with": {}}
    (folder / PLAN).write_text(json.dumps({"schema": 1, **plan}))
    (folder / "progress.jsonl").touch()
    return str(folder)


COMMANDS = {
    "compare": lambda home, model: ["compare", *circuits_of(home, model), "controls=0", "draws=99", "resamples=99"],
    "export": lambda home, model: ["export", scores_of(home / "r", model), "format=duo-attention", "recall=0.5", "out=d"],
    "simulate": lambda home, model: ["simulate", f"heads={scores_of(home / 'r', model)}", "policy=duo", *SMALL, "out=none"],
    "fit-windows": lambda home, model: ["fit-windows", f"heads={scores_of(home / 'r', model)}", *SMALL, "out=none"],
    "choose-cut": lambda home, model: ["choose-cut", scores_of(home / "r", model), *SMALL, "out=none"],
    "merge": lambda home, model: ["merge", shard_of(home / "r", model)],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_does_not_make_this_machine_ask_the_hub(command, asked, tmp_path, capsys):
    assert main(COMMANDS[command](tmp_path, HUB_ID)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"names the model {HUB_ID}, which is not on this machine" in line and f"hf download {HUB_ID}" in line, line
    assert not asked


def test_negative_control_who_names_the_model_has_the_hub_asked(asked, tmp_path, capsys):
    words = COMMANDS["choose-cut"](tmp_path, HUB_ID)
    assert main([*words, f"model={HUB_ID}"]) == 2
    assert asked and "the hub cannot be reached" in capsys.readouterr().err


def test_what_is_in_the_cache_is_loaded_unasked_and_said(asked, tmp_path, capsys):
    cached(tmp_path)
    with named_by("runs/x"):
        assert wb.load(HUB_ID).n_layers == 3
    assert f"note: the model is {HUB_ID}, as runs/x says" in capsys.readouterr().err
    assert not asked and not constants.HF_HUB_OFFLINE


def test_half_a_model_in_the_cache_is_not_made_whole(asked, tmp_path):
    (cached(tmp_path) / "model.safetensors").unlink()
    with named_by("runs/x"), pytest.raises(wb.errors.ModelError, match="not on this machine"):
        wb.load(HUB_ID)
    assert not asked


def test_bundled_models_and_folders_are_loaded(asked, tmp_path):
    tiny_models.save("llama", tmp_path / "mine")
    with named_by("runs/x"):
        assert wb.load("planted-copy").n_layers and wb.load("mine").n_layers == 3
    assert not asked


def test_nothing_stays_changed(asked, tmp_path, capsys):
    with pytest.raises(KeyError), named_by("runs/x"):
        raise KeyError
    with named_by(None):
        wb.load("planted-copy")
    assert "note:" not in capsys.readouterr().err
