"""Where a model comes from: a folder is that folder, whatever its name; the hub is asked as Hugging Face would ask it."""

from __future__ import annotations

import http.server
import threading

import pytest
import tiny_models
from huggingface_hub import constants

import workbench as wb
from workbench.errors import ModelError
from workbench.sources import check_hub, locate


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """Folders that are called as TransformerLens calls models of the hub, and one that stands for such a model."""
    home = tmp_path_factory.mktemp("home")
    for kind, name in (("llama", "pythia-70m"), ("llama", "EleutherAI/pythia-70m"), ("gpt2", "official")):
        (home / name).mkdir(parents=True)
        tiny_models.save(kind, home / name)
    return home


@pytest.fixture
def aliases(homes, monkeypatch):
    """TransformerLens finds the model that stands for the hub's under every name of the folders."""
    import transformer_lens.tools.model_registry.registry_io as registry

    table = {str(homes / "official"): ["pythia-70m", "EleutherAI/pythia-70m"]}
    monkeypatch.setattr(registry, "load_model_aliases", lambda: table)
    monkeypatch.chdir(homes)


@pytest.mark.parametrize("typed", ["pythia-70m", "./pythia-70m", "EleutherAI/pythia-70m", "pythia-70m/"])
def test_a_folder_with_the_name_of_a_model_is_that_folder(typed, aliases, homes):
    model = wb.load(typed)
    assert model.bridge.original_model.config.model_type == "llama"
    found = locate(typed)
    assert found.place == str((homes / typed).resolve()) and (found.name, found.label) == ("pythia-70m", typed)


def test_negative_control_the_name_alone_would_be_the_hubs(aliases):
    from workbench.booting import boot, dtype_of

    assert boot("pythia-70m", dtype_of("float32"), "cpu", False).original_model.config.model_type == "gpt2"


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers every request with the code of its server, and notes with which right it was asked."""

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        self.send_response(self.server.code)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine; `code` is what it answers."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.code = [], 401  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    check_hub.cache_clear()
    yield server
    server.shutdown()
    server.server_close()
    check_hub.cache_clear()


@pytest.mark.parametrize("code", [401, 403])
def test_who_is_logged_in_is_not_told_to_log_in(code, hub, monkeypatch):
    hub.code = code
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ModelError, match="hf auth login"):
        locate("someone/gated")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    assert locate("someone/gated").place == "someone/gated"
    assert hub.asked == [None, None], "a token is sent by Hugging Face only"


def test_a_model_that_is_not_there_is_not_there_for_anyone(hub, monkeypatch):
    hub.code = 404
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    with pytest.raises(ModelError, match="no such model"):
        locate("someone/nothing")


def test_nobody_is_asked_where_hugging_face_is_offline(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="switched off"):
        locate("someone/model")
    assert not hub.asked
