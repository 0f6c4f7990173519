"""Tasks of RULER in the simulation: generated rows and the user's, scored from the cut cache; the cost of decoding."""

from __future__ import annotations

import json

import numpy as np
import pytest
from workbench_analyses.kv.measured import Point
from workbench_analyses.kv.plots import decoding, pareto
from workbench_analyses.kv.ruler_cases import rows_asked
from workbench_analyses.kv.variants import Variant, fits, left_out
from workbench_analyses.kv_policies import Simulate

import workbench as wb
from workbench.cli import main
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.policies import named
from workbench.policies.setting import Setting
from workbench.tasks.assembling import Assembler

SMALL = {"context": 192, "samples": 2, "texts": 0, "depths": (30,), "batch": 4, "draws": 0, "published": False}


@pytest.fixture(scope="module")
def model():
    return wb.load("llama")


@pytest.fixture(scope="module")
def done(model, tmp_path_factory):
    out, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(3)
    heads = str(
        wb.write_scores(HeadScores(rng.random((4, 16)), "random"), tmp_path_factory.mktemp("h") / "scores.json")
    )
    asked = {
        **SMALL,
        "policy": ("snapkv", "vertical-slash", "ems-like"),
        "budgets": (0.3, 0.8),
        "rows": 2,
        "heads": heads,
    }
    return wb.analyses.kv_policies.simulate(model, out=str(out), **asked), asked, next(out.iterdir())


def test_scores_are_of_free_answers_beside_the_full_cache(done):
    result, _, folder = done
    assert result.tasks == ("niah_multikey_1", "niah_multivalue") and result.asked("niah_multivalue") == 2
    assert result.full_score("niah_multikey_1") == 1.0 and 0 <= result.full_score("niah_multivalue") <= 0.5
    by = {(p.text, p.budget): p for p in result.points}
    assert by["snapkv", 0.8].mean("score", "niah_multikey_1") == 1.0
    assert np.isnan(by["snapkv", 0.8].mean("score")) and np.isnan(by["snapkv", 0.8].perplexity[0])
    wrong, right = by["ems-like", 0.3], by["snapkv", 0.8]  # what tells less also scores less
    assert wrong.mean("kl", "niah_multikey_1") > right.mean("kl", "niah_multikey_1")
    assert wrong.mean("score", "niah_multikey_1") <= right.mean("score", "niah_multikey_1")
    rows = [json.loads(line) for line in (folder / "ruler.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and set(rows[0]) >= {"index", "input", "outputs", "length", "context", "answer"}
    assert all(0 < row["length"] <= 192 for row in rows)


def test_policies_stand_where_they_save_and_guesses_nowhere(done):
    result, _, folder = done
    assert set(result.on_plot("kept", "niah_multivalue")) == {"snapkv"} == set(result.on_plot("read"))
    assert set(result.on_plot("prefill_share")) == {"vertical-slash"}
    assert [s.name for s in pareto(result, "kept", "niah_multikey_1")[0].series] == ["snapkv"]
    page = (folder / "report.html").read_text()
    assert "score, niah_multikey_1" in page and "Decoding costs what is kept" not in page  # two points make no line
    assert "least share of the prefill with" in result.verdict


def test_the_users_rows_are_asked_again_alike(done, model, tmp_path):
    result, asked, folder = done
    again = wb.analyses.kv_policies.simulate(
        model,
        **{**asked, "policy": ("snapkv",), "budgets": (0.8,), "tasks": ("none",)},
        ruler=str(folder / "ruler.jsonl"),
    )
    first = next(p for p in result.points if (p.text, p.budget) == ("snapkv", 0.8))
    for task in result.tasks:  # a folder's rows are the rows that were generated
        np.testing.assert_allclose(again.points[0].quality[task], first.quality[task], atol=1e-5)
        assert again.full_score(task) == result.full_score(task)
    assert "tasks=none" in again.command and "ruler=" in again.command


def test_rows_that_do_not_fit_are_one_line(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "long.jsonl"
    rows.write_text(json.dumps({"input": "the lamp " * 3000, "outputs": ["x"]}))
    config = Simulate(**SMALL, tasks=("none",), ruler=str(rows))
    with pytest.raises(BadInput, match="llama takes 4096"):
        rows_asked(config, model, Assembler(model.tokenizer))
    for words, said in ((["tasks=multikeys"], "Did you mean 'multikey'"), (["ruler=no.jsonl"], "cannot be read"),
                        (["rows=0"], "rows=0: give at least 1")):  # fmt: skip
        assert main(["simulate", *words]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert len(lines) == 1 and said in lines[0]


def test_rows_of_a_name_that_others_have_are_refused(model, tmp_path):
    for name, task, tasks, said in (
        ("rows.jsonl", "niah_multikey_1", ("multikey",), "niah_multikey_1, which is generated too: use tasks=none"),
        ("needle.jsonl", None, ("none",), "the task needle, a name that is taken"),
        ("rows.jsonl", "prose", ("none",), "the task prose, a name that is taken"),
    ):
        rows = tmp_path / name
        rows.write_text(json.dumps({"input": "the lamp", "outputs": ["x"], **({"task": task} if task else {})}))
        with pytest.raises(BadInput, match=said):
            rows_asked(Simulate(**SMALL, tasks=tasks, ruler=str(rows)), model, Assembler(model.tokenizer))
    rows.write_text(json.dumps({"input": "the lamp", "outputs": ["x"], "task": "niah_multikey_1"}))
    own = Simulate(**SMALL, tasks=("multivalue",), rows=1, ruler=str(rows))
    assert set(rows_asked(own, model, Assembler(model.tokenizer))) == {"niah_multikey_1", "niah_multivalue"}


def test_what_a_kind_of_prompts_is_too_short_for_is_left_out():
    policy = named("snapkv")[0]
    chosen = [Variant("snapkv", policy, "full", b) for b in (0.5, None)]
    long, short = (Setting(range(2), 4, 2, n, 1.0) for n in (2000, 500))
    assert [fits(v, short) for v in chosen] == [True, False] and all(fits(v, long) for v in chosen)
    assert left_out(chosen, {"needle": long, "vt": short}) == ["vt, prompts of 500 tokens: snapkv, published"]


def test_the_fitted_line_is_that_of_the_points(done):
    result, _, _ = done
    costs = np.full((1, 8), 0.5)
    entries, seconds = (1e6, 2e6, 4e6), (0.3, 0.5, 0.9)
    points = [Point("snapkv", b, "full", True, {}, {"needle": np.zeros((1, 7))}, {"needle": costs}, work=(e, s))
              for b, e, s in zip((0.1, 0.2, 0.4), entries, seconds)]  # fmt: skip
    from dataclasses import replace

    planted = replace(result, points=points)
    assert planted.decoding == pytest.approx(
        {"base_seconds": 0.1, "seconds_per_million_entries": 0.2, "r_squared": 1.0}
    )
    assert decoding(planted)[0].segments[0][0] == pytest.approx((1.0, 0.3, 4.0, 0.9))
    assert not decoding(replace(result, points=points[:2])) and replace(result, points=points[:2]).decoding is None
