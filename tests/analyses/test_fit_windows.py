"""The fit of windows: heads wired by hand need what they were wired for; the check, the report, one line for bad input."""

from __future__ import annotations

import itertools
import json
from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console
from workbench_analyses.windows.fitting import _worst_median
from workbench_analyses.windows.rules import FITTED, HALVED, WIDEST, deals, rules

import workbench as wb
from workbench.cli import main
from workbench.jsonable import dumps
from workbench.policies.scheme import Seen
from workbench.policies.setting import Setting
from workbench.reference_models.catalogue import PLANTED
from workbench.simulation.cases import Batch, Case
from workbench.simulation.losing_reach import output_errors
from workbench.smallest_windows import smallest

SMALL = {"context": 256, "prompts": 6, "samples": 4, "texts": 1, "depths": (0, 40), "draws": 3, "beside": (0.4,)}
ROLES = PLANTED["planted-copy"].roles
NEAR = [h for role in ("previous", "previous-2", "previous-3", "previous-idle") for h in ROLES[role]]


@pytest.fixture(scope="module")
def planted():
    return wb.load("planted-copy")


@pytest.fixture(scope="module")
def done(planted, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return wb.analyses.fit_windows.fit(planted, out=str(out), **SMALL), out


def test_copying_heads_need_long_windows_and_those_that_look_back_a_step_the_shortest(done):
    """Where answers are told. Heads that spread their attention need everything too, whatever it is good for."""
    result, _ = done
    found = smallest(result.errors["told"], result.windows, 256, 0.1, 8)
    assert all(found[head] == 256 for head in ROLES["copy"]), found
    assert all(found[head] == 256 for head in ROLES["uniform"]), found
    assert all(found[head] == 16 for head in NEAR), found
    worst = np.maximum(result.errors["told"], result.errors["read"])
    assert result.windows == (16, 32, 64, 128) and (result.found == smallest(worst, result.windows, 256, 0.1, 4)).all()


def test_where_nothing_is_to_be_copied_the_same_heads_need_the_shortest(planted):
    """The negative control: tokens that never come again, so that a copy head finds no match and parks on the first."""
    tokens = np.random.default_rng(0).permutation(np.arange(5, 205))[None]
    text = Batch.of([Case((planted.tokenizer.bos_token_id, *tokens[0].tolist()), 200, 1, 1)], planted.device)
    rows = torch.arange(100, 200)[None]
    errors = output_errors(planted, text, rows, (16, 64), 1)
    for layer, head in ROLES["copy"]:
        assert errors[layer][0, head, :, 0].median() < 0.01
    for layer, head in ROLES["uniform"]:
        assert errors[layer][0, head, :, 0].median() > 0.3


def test_the_check_tells_the_windows_from_the_same_windows_elsewhere(done):
    result, _ = done
    own = result.check(FITTED)
    assert own.point.mean("recall") == 1 and len(own.dealt) == 3 and own.p == pytest.approx(1 / 4)
    assert min(own.of_deals("kl")) > own.point.mean("kl")
    kept = [result.check(name).kept for name in (FITTED, HALVED, WIDEST)]
    assert max(kept) - min(kept) < 0.02, "equal entries"
    assert own.kept == pytest.approx(result.share(0.1), abs=0.02)


def test_deals_keep_the_windows_of_every_layer():
    found = np.array([[16, 256, 32], [16, 16, 16]])
    for other in deals(found, 5, 0):
        np.testing.assert_array_equal(np.sort(other, 1), np.sort(found, 1))
        assert not np.array_equal(other, found)
    assert deals(found[1:], 5, 0) == [] and deals(found, 0, 0) == []


def test_no_deal_comes_twice_and_few_are_all_there_are():
    found = np.array([[16, 256, 16, 16], [16, 16, 32, 32]])
    every = {
        (a, b) for a in itertools.permutations(found[0].tolist()) for b in itertools.permutations(found[1].tolist())
    }
    every -= {tuple(map(tuple, found.tolist()))}
    for draws in (10, 23, 200):  # 4 × 6 arrangements, one of them the windows
        drawn = [tuple(map(tuple, other.tolist())) for other in deals(found, draws, 3)]
        assert len(drawn) == len(set(drawn)) == min(draws, 23) and set(drawn) <= every
    assert len(deals(np.array([[16, 32], [16, 16]]), 19, 0)) == 1  # p is then at least 1 / 2


def test_rules_hold_as_many_entries_on_prompts_of_every_length():
    """The share of 20 tokens is larger on shorter prompts: windows of the least size are no list that is too tight."""
    heads = [(layer, head) for layer in range(4) for head in range(4)]
    settings = {kind: Setting(range(4), 16, 4, n, 1.0, heads) for kind, n in (("needle", 250), ("prose", 190))}
    assigned = {100.0: np.full((4, 4), 16), 0.1: np.array([[16, 256, 32, 128]] * 4)}
    every, refused = rules(assigned, 4, 16, 256, 0, 0, settings)
    assert not refused and len(every) == 6
    for kind, setting in settings.items():
        seen = Seen(torch.zeros(4, setting.tokens, 2), torch.zeros(4, setting.tokens, 2), torch.zeros(16, 1, 2), 1.0)
        held = {
            (r.name, r.tolerance): sum(int(r.make(setting).keep(i, seen).held().sum()) for i in range(4)) for r in every
        }
        for tolerance in assigned:
            own = held[FITTED, tolerance]
            assert all(own - 16 <= held[name, tolerance] <= own for name in (HALVED, WIDEST)), (kind, held)


def test_a_run_is_taken_up_exported_and_reported(done, planted, tmp_path, capsys):
    result, out = done
    folder = next(out.iterdir())
    again = wb.analyses.fit_windows.fit(planted, out=str(out), **SMALL)
    assert dumps([c.summary() for c in again.checks]) == dumps([c.summary() for c in result.checks])
    assert len(list(out.iterdir())) == 1
    assert main(["export", str(folder), "format=head-windows", f"out={tmp_path / 'served'}"]) == 0
    printed = capsys.readouterr().out
    assert "compression_ratio=" in printed and "keep everything" in printed
    held = json.loads((tmp_path / "served" / "head_windows.json").read_text())["windows"]
    assert [[256 if w is None else w for w in row] for row in held] == result.found.tolist()
    assert json.loads((tmp_path / "served" / "provenance.json").read_text())["validation"][FITTED]["recall"] == 1
    page = (folder / "report.html").read_text()
    assert "The windows" in page and "list, as many full as fit" in page
    console = Console(width=160, file=StringIO())
    console.print(result)
    text = console.file.getvalue()
    assert "need everything" in text and "format=head-windows" in text and FITTED in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tolerance=0"], "tolerance 0: give shares"),
        (["beside=.1,-1"], "tolerance -1"),
        (["at=all"], "use told, read or both"),
        (["least=1024"], "there is nothing to fit"),
        (["context=10"], "give at least 128"),
        (["nowhere.json"], "heads=nowhere.json does not exist"),
        (["model=lama"], "Did you mean 'llama'?"),
        (["tolerence=.1"], "Did you mean 'tolerance'?"),
    ],
)
def test_bad_words_give_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit-windows", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and said in lines[0]
    assert not list(tmp_path.iterdir())


def test_medians_are_taken_depth_by_depth():
    """A head that is only wrong for one of three depths is wrong there in the median, though not over all rows."""
    rng = np.random.default_rng(1)
    parts = [rng.random((2, 3, int(rng.integers(3, 6)), 4)) + (i % 3 == 1) for i in range(7)]
    found = _worst_median(parts, 3)
    by_depth = [np.median(np.concatenate([parts[i] for i in range(7) if i % 3 == d], 2), 2) for d in range(3)]
    np.testing.assert_array_equal(found, np.maximum.reduce(by_depth))
    assert (found > 1).all() and (_worst_median(parts, 1) < 1).all()
    assert _worst_median(parts[:1], 3).shape == (2, 3, 4)
