"""A command that does its units by name, as a worker of a cluster would: the same arrays, errors as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from workbench_analyses.retrieval import units
from workbench_analyses.retrieval_heads import scan

from workbench.errors import BadInput, ModelError
from workbench.serving import Server
from workbench.spreading import Unit

WORDS = ["model=planted-copy", "lengths=64,", "depths=50,", "rounds=2", "until=none", "proof=none", "out=none"]


@pytest.fixture
def kept(monkeypatch):
    """What the units of a scan gave in this thread."""
    kept, true = {}, units._score

    def noted(model, block, stops):
        kept[block.name] = true(model, block, stops)
        return kept[block.name]

    with monkeypatch.context() as patch:
        patch.setattr(units, "_score", noted)
        scan("planted-copy", lengths=(64,), depths=(50.0,), rounds=2, until=None, proof="none")
    return kept


def test_units_by_name_are_those_of_a_run_and_nothing_is_written(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = Server("scan-heads", WORDS)
    told = server.begin()
    facts = told["facts"]
    assert told["circumstances"]["conditions"]["threads"] == torch.get_num_threads() and told["pid"]
    assert facts["torch"] == torch.__version__ and facts["device"] == "cpu" and len(facts["model"]) == 2
    assert len(kept) == 2
    for unit in reversed(list(kept)):
        arrays, meta = server.do(unit)
        assert set(arrays) == set(units.ARRAYS) and meta == kept[unit][1]
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, kept[unit][0][name])
    assert not list(tmp_path.iterdir())


def test_a_unit_that_is_not_known_or_fails_is_told_and_the_next_one_is_done(kept, monkeypatch):
    server = Server("scan-heads", WORDS)
    server.begin()
    with pytest.raises(BadInput, match="no unit 'x'"):
        server.do("x")
    with monkeypatch.context() as patch:
        patch.setattr(units, "score_block", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            server.do(next(iter(kept)))
    assert server.do(next(iter(kept)))[1]["samples"]


def test_files_that_differ_are_seen_before_any_unit(tmp_path):
    file, told = tmp_path / "n.jsonl", []
    for value in ("71", "71", "72"):
        said = {"needle": f"The code of Anna is {value}.", "answer": value, "question": "What is the code of Anna?"}
        file.write_text(json.dumps(said))
        told.append(Server("scan-heads", [*WORDS, f"needles={file}"]).begin()["facts"])
    assert told[0] == told[1] != told[2] and told[0] == {**told[2], "asked": told[0]["asked"]}


def test_a_command_that_cannot_begin_says_why():
    with pytest.raises(ModelError, match="lama"):
        Server("scan-heads", ["model=lama"]).begin()
    with pytest.raises(BadInput, match="no option"):
        Server("scan-heads", ["modl=llama"]).begin()


def test_a_unit_costs_one_unless_said():
    assert Unit("a", lambda: ({}, {})).cost == 1.0
