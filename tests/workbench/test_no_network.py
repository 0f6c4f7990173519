"""Nothing asks the network but a model that the hub holds: everything else works with every socket blocked."""

from __future__ import annotations

import socket

import pytest
import tiny_models

import workbench as wb
from workbench.cli import main
from workbench.sources import check_hub


@pytest.fixture
def tried(monkeypatch):
    """Addresses that somebody wanted to reach. Hugging Face is not told to stay offline."""
    import huggingface_hub.constants as constants

    asked: list[object] = []

    def refuse(*words, **_):
        asked.append(words)
        raise OSError("blocked")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return asked


def test_models_are_loaded_without_it(tried, tmp_path):
    for place in ("planted-copy", "llama", "gpt2", "llava", tiny_models.save("llama", tmp_path)):
        assert wb.load(place).n_layers
    assert not tried


def test_commands_work_without_it(tried, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = ["lengths=96,", "rounds=1", "proof=none"]
    for words in (
        ["models"], ["formats"], ["scan-heads", "--help"], ["scan-heads", "model=planted-copy", "out=a", *short],
        ["scan-sinks", "model=planted-sink", "tokens=64", "samples=2", "proof=none", "recent=8", "out=b"],
    ):  # fmt: skip
        assert main(words) == 0, capsys.readouterr().err
    (run,) = (tmp_path / "a").iterdir()
    assert main(["compare", str(run), str(run)]) == 0
    assert main(["export", str(run), "format=duo-attention", "threshold=.1", "kv_heads=4", "out=d"]) in (0, 2)
    assert not tried


def test_negative_control_a_hub_id_asks_and_says_that_it_cannot(tried, capsys):
    check_hub.cache_clear()
    assert main(["scan-heads", "model=nobody/nothing", "out=none"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert tried and len(lines) == 1 and "the hub cannot be reached" in lines[0]
