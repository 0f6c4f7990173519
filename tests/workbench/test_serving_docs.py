"""The commands of docs/serving.md run, and every format has one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from workbench.cli import main
from workbench.exporters import discover
from workbench.heads import HeadScores
from workbench.scores_io import read_scores, score_files
from workbench.smallest_windows import as_scores

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
COMMANDS = re.findall(r"`(workbench export RUN format=[^`]*)`", PAGE.read_text())
COMMANDS = [command for command in COMMANDS if "NAME" not in command]


def test_every_format_has_its_command():
    assert {re.search(r"format=(\S+)", command)[1] for command in COMMANDS} == set(discover())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs_and_its_files_are_read(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).random((8, 12))
    values[::3] /= 20
    Path("RUN").mkdir()
    scores = HeadScores(values, "test", kv_heads=4)
    if "head-windows" in command:  # RUN is one of fit-windows
        scores = as_scores(np.resize([16, 64, 32], (8, 4)), (16, 32), 64, 0.1, 4)
    for name, text in score_files(scores).items():
        Path("RUN", name).write_text(text)
    Path("MODEL").mkdir()
    config = {"num_hidden_layers": 8, "num_attention_heads": 12, "num_key_value_heads": 4}
    Path("MODEL/config.json").write_text(json.dumps(config))
    assert main([*command.split()[1:], "out=out"]) == 0
    printed = capsys.readouterr().out
    name = re.search(r"format=(\S+)", command)[1]
    if name not in ("scores-json", "headvis"):
        assert "use: " in printed and "FOLDER" not in printed
        assert ("at the cut: " in printed) == (name != "head-windows")
    found = read_scores("out", 4)
    assert found.n_layers == 8 and found.n_heads in (4, 12)


def test_cuts_of_the_page_are_options_of_the_command():
    options = set(re.findall(r"^\| `([a-z_]+)=", PAGE.read_text(), re.M))
    assert options == {"sparsity", "threshold", "budget", "recall", "gates"}
