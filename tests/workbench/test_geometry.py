"""Layers and heads from configs, and scores refused where they are another model's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_models

import workbench as wb
from workbench import geometry
from workbench.errors import BadInput, ModelError
from workbench.geometry import Geometry, fitted, of_config, of_model
from workbench.heads import HeadScores, ModelIdentity


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2}, (3, 8, 2)),
        ({"num_hidden_layers": 3, "num_attention_heads": 8}, (3, 8, 8)),
        ({"n_layer": 12, "n_head": 12}, (12, 12, 12)),
        ({"num_hidden_layers": 9, "text_config": {"num_hidden_layers": 2, "num_attention_heads": 4}}, (2, 4, 4)),
    ],
)  # fmt: skip
def test_configs_say_how_many(config, found):
    assert of_config(config, "x") == Geometry("x", *found)


@pytest.mark.parametrize(
    "config",
    [{}, {"num_hidden_layers": 3}, {"num_hidden_layers": True, "num_attention_heads": 2}, {"n_layer": "3", "n_head": 2},
     {"n_layer": 3, "n_head": 0}, {"n_layer": 3, "num_attention_heads": 8, "num_key_value_heads": 3}],
)  # fmt: skip
def test_configs_that_do_not(config):
    with pytest.raises(BadInput, match="does not say|cannot share"):
        of_config(config, "x")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text"])
def test_the_config_alone_says_what_the_loaded_model_says(kind, tmp_path):
    folder = tiny_models.save(kind, tmp_path)
    read, loaded = of_model(folder), of_model(wb.load(folder))
    assert (read.layers, read.heads, read.kv_heads) == (loaded.layers, loaded.heads, loaded.kv_heads)
    assert read.identity is None and of_model(folder, identify=True).identity == loaded.identity is not None
    assert of_model("llama").kv_heads == 4


def test_of_a_hub_model_only_the_config_is_fetched(tmp_path, monkeypatch):
    asked = []

    def fetch(place, name):
        asked.append((place, name))
        (tmp_path / name).write_text(json.dumps({"num_hidden_layers": 7, "num_attention_heads": 4}))
        return str(tmp_path / name)

    monkeypatch.setattr("workbench.sources.check_hub", lambda place: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert of_model("someone/model").layers == 7 and asked == [("someone/model", "config.json")]

    def gone(place, name):
        raise OSError("no\nline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", gone)
    with pytest.raises(ModelError, match="someone/model: its config cannot be had: no line"):
        of_model("someone/model")


def test_scores_of_another_models_weights_are_refused(tmp_path):
    """Same config, other weights: a finetune is another model. Same weights in another dtype as scanned: the same."""
    folder = tiny_models.save("llama", tmp_path)
    model = wb.load(folder, dtype="bfloat16")
    identity = ModelIdentity(model.name, *model.identity())
    scores = HeadScores(np.random.default_rng(0).random((3, 8)), "t", {"dtype": "bfloat16"}, model=identity)
    assert fitted(scores, folder)[0].kv_heads == 2
    with pytest.raises(BadInput, match="were measured on .* not on"):
        fitted(replace(scores, model=replace(identity, weights="other")), folder)
    with pytest.raises(BadInput, match="were measured on .* not on"):
        fitted(replace(scores, model=replace(identity, config_hash="other")), folder)
    with pytest.raises(BadInput, match="another model's"):
        fitted(HeadScores(np.zeros((3, 4)), "t"), folder)
    assert fitted(HeadScores(np.zeros((3, 2)), "t"), folder)[0].kv_heads == 2, "per key-value head it fits, unverified"
    with pytest.raises(BadInput, match="name 4 key-value heads"):
        fitted(HeadScores(np.zeros((3, 8)), "t", kv_heads=4), folder)


def test_the_identity_outlives_an_upgrade_of_transformers(tmp_path, monkeypatch):
    folder = tiny_models.save("llama", tmp_path)
    before = wb.load(folder).identity()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_version": "9.9"}))
    monkeypatch.setattr("transformers.configuration_utils.__version__", "9.9")
    assert wb.load(folder).identity() == before
    assert geometry.of_model(folder, identify=True).identity.config_hash == before[0]
