"""Calibration where memory is stated or runs out: fewer samples at a time, the same margins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from workbench_analyses.calibrate_heads import CalibrateHeads
from workbench_analyses.calibration.alone import each_alone
from workbench_analyses.calibration.lists import margins_of_lists

import workbench as wb
from workbench.budget import FewerRows
from workbench.errors import TooLarge
from workbench.reference_models.catalogue import PLANTED
from workbench.tasks.assembling import Assembler
from workbench.tasks.choices import ChoiceSample, choice_samples

ROLES = PLANTED["planted-calibrate"].roles
LISTS = [((2, 1), (1, 3)), (), (ROLES["help"][0], (0, 2))]


@pytest.fixture(scope="module")
def planted():
    return wb.load("planted-calibrate")


@pytest.fixture(scope="module")
def samples(planted):
    """Of several lengths; two choices of two tokens, so that each is a row."""

    def shorter(i: int, s: ChoiceSample) -> ChoiceSample:
        choices = tuple((*s.choices[j], 7 + i) for j in (s.answer, s.answer - 1))
        return replace(s, prompt=s.prompt[: len(s.prompt) - i], choices=choices, texts=s.texts[:2], answer=0)

    asked = choice_samples("needle-choice", Assembler(planted.tokenizer), 4, 5)
    return [shorter(i, s) for i, s in enumerate(asked)]


@pytest.fixture(scope="module")
def whole(planted, samples):
    return measured(planted, samples)


def measured(model, samples, batch=32):
    config = CalibrateHeads(model="planted-calibrate", batch=batch)
    alone = each_alone(config, model, (1,), samples)
    return {**alone, "lists": margins_of_lists(config, model, LISTS, samples)}


def equal(got, want):
    assert want["change"].any() and np.ptp(want["lists"], 0).max() > 0.1
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=2e-4, err_msg=name)  # codes of 5 nats


def test_where_memory_runs_out_fewer_samples_are_at_work(planted, samples, whole, narrow):
    choices = len(samples[0].choices)
    went = narrow(planted, 2 * choices)
    with pytest.warns(FewerRows, match="choices: memory ran out on cpu with 4 rows at a time; going on with 2"):
        equal(measured(planted, samples), whole)
    assert max(went) == 2 * choices


def test_a_stated_budget_is_kept_and_the_least_is_said(planted, samples, whole, narrow, monkeypatch):
    went = narrow(planted, 99)
    monkeypatch.setattr(planted, "memory", "20kB")
    with pytest.raises(TooLarge, match="choices: .* for one row, more than 20kB: raise memory= to ") as caught:
        measured(planted, samples)
    monkeypatch.setattr(planted, "memory", str(caught.value).split("raise memory= to ")[1].split(",")[0])
    equal(measured(planted, samples), whole)
    assert max(went) == len(samples[0].choices)


def test_no_forward_has_more_rows_than_batch_says(planted, samples, whole, narrow):
    went, choices = narrow(planted, 99), len(samples[0].choices)
    equal(measured(planted, samples, batch=2 * choices), whole)
    assert max(went) == 2 * choices
