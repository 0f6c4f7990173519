"""Scans that run in as little memory as their own advice names, and where memory runs out: the same numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.errors import TooLarge


def least(scan, few):
    """The amount that a refusal names."""
    with pytest.raises(TooLarge, match=f"for one row, more than {few}: raise memory= to ") as caught:
        scan(memory=few)
    return str(caught.value).split("raise memory= to ")[1].split(",")[0]


def test_sinks_are_found_in_little_memory(narrow, capsys):
    """Many keys are looked at, so that the weights paid to them in all layers would not fit."""
    model = wb.load("llama")

    def scan(**asked):
        return wb.analyses.attention_sinks.scan(model, tokens=96, samples=3, proof="none", **asked)

    whole, went = scan(), narrow(model, 99)
    amount = least(scan, "200kB")
    small = scan(memory=amount)
    assert max(went) < 3 and model.memory is None
    narrow(model, 1)
    narrowed = scan()
    said = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]
    assert said == ["note: observe: memory ran out on cpu with 3 rows at a time; going on with 1 at most"]
    assert len(whole.natural.sinks) > 5
    for other in (small, narrowed):
        np.testing.assert_allclose(other.scores.values, whole.scores.values, atol=1e-6)
        pd.testing.assert_frame_equal(other.sinks_frame(), whole.sinks_frame(), rtol=1e-4, atol=1e-6)


def test_an_atlas_is_made_in_little_memory(narrow, capsys):
    """Numbers of the rows are summed layer by layer; top keys and pictures are kept."""
    model = wb.load("llama")

    def read(**asked):
        few = {"needles": 0, "repeats": 0, "ioi": 0, "scenes": 0}
        return wb.analyses.atlas.atlas(model, tokens=64, samples=3, sequences=2, **few, **asked)

    whole, went = read(), narrow(model, 99)
    amount = least(read, "100kB")
    small = read(memory=amount)
    assert went[:3] == [1, 1, 1] and model.memory is None
    narrow(model, 1)
    narrowed = read()
    assert "note: the atlas: memory ran out on cpu with" in capsys.readouterr().err
    for other in (small, narrowed):
        pd.testing.assert_frame_equal(other.to_frame(), whole.to_frame(), rtol=1e-4, atol=1e-5)
