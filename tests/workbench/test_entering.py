"""A config, a name or a loaded model come in alike, and what is wrong is said before a model is loaded."""

from __future__ import annotations

import chz
import pytest

import workbench as wb
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput, ModelError


@chz.chz
class Ask:
    model: str = "llama"
    k: int = 3
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
