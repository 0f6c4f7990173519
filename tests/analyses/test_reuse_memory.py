"""Comparing circuits says in its own way that memory ran out, as every scan does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import torch
from workbench_analyses.circuit_reuse import CircuitReuse
from workbench_analyses.circuits import reuse_experiment

from workbench.budget import in_parts
from workbench.models import Model


def test_fewer_rows_are_said_as_a_note(monkeypatch, capsys):
    fake = SimpleNamespace(memory=None, ceilings={}, device=torch.device("cpu"), tokenizer=None)
    side = SimpleNamespace(asked={}, circuit=SimpleNamespace(task="ioi"))

    def work(rows):
        if rows.stop - rows.start > 2:
            raise MemoryError
        return rows

    monkeypatch.setattr(reuse_experiment, "_check_identity", lambda *_: None)
    monkeypatch.setattr(reuse_experiment, "_prompts", lambda *_: [])
    monkeypatch.setattr(reuse_experiment.Ablated, "of", lambda *_, **__: None)
    monkeypatch.setattr(reuse_experiment, "transfer", lambda *_: len(in_parts(fake, "circuits", 4, 1, work)))
    model = cast(Model, fake)
    assert reuse_experiment._transfers(CircuitReuse(), (side, side), (model, model)) == (2, 2)  # pyright: ignore
    said = capsys.readouterr().err.splitlines()
    assert said == ["note: circuits: memory ran out on cpu with 4 rows at a time; going on with 2 at most"]
