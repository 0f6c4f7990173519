"""The simulation as a run: equal budgets, resumed by unit, the same numbers from both roads, one line for bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import chz
import numpy as np
import pytest
import tiny_models
from rich.console import Console
from workbench_analyses.kv import asking
from workbench_analyses.kv.measured import Point
from workbench_analyses.kv.plots import pareto
from workbench_analyses.kv.variants import variants
from workbench_analyses.kv_policies import Simulate

import workbench as wb
from workbench.cli import main
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.policies.setting import Setting

SMALL = {
    "context": 160,
    "samples": 4,
    "texts": 1,
    "depths": (10, 60),
    "batch": 3,
    "draws": 2,
    "published": False,
    "tasks": ("none",),
}


@pytest.fixture(scope="module")
def model():
    return wb.load("llama")


@pytest.fixture(scope="module")
def heads(model, tmp_path_factory):
    """Scores of every head, random but for the order."""
    rng = np.random.default_rng(3)
    return str(wb.write_scores(HeadScores(rng.random((4, 16)), "random"), tmp_path_factory.mktemp("h") / "scores.json"))


@pytest.fixture(scope="module")
def done(model, heads, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    asked = {**SMALL, "heads": heads, "policy": ("duo", "snapkv", "topk"), "budgets": (0.3, 0.6)}
    return wb.analyses.kv_policies.simulate(model, out=str(out), **asked), asked, out


def test_budgets_are_equal_and_what_reads_more_says_more(done):
    result, _, _ = done
    by = {(p.text, p.budget): p for p in result.points}
    for budget in (0.3, 0.6):
        kept = [by[name, budget].mean("kept") for name in ("duo", "snapkv")]
        assert max(kept) - min(kept) < 0.02 and all(abs(k - budget) < 0.02 for k in kept)
        assert by["topk", budget].mean("kept") == 1 and budget <= by["topk", budget].mean("read") < 1
    sharp = by["topk", 0.6]  # reads nearly all of the mass, and so says what the full cache says
    assert sharp.mean("kl") < by["snapkv", 0.3].mean("kl") and sharp.mean("agree") == 1
    assert sharp.perplexity[0] == pytest.approx(sharp.full_perplexity, rel=0.02)
    assert len(by["duo", 0.6].controls) and by["duo", 0.6].p >= 1 / 3 and not by["snapkv", 0.6].controls
    assert by["duo", 0.6].quality["needle"].shape == (4, 7) and by["duo", 0.6].quality["prose"].shape == (1, 7)


def test_policies_stand_on_a_plot_only_where_they_save(done):
    result, _, _ = done
    assert set(result.on_plot("kept")) == {"duo", "snapkv"} and not result.on_plot("prefill_share")
    assert set(result.on_plot("read")) == {"duo", "snapkv", "topk"}
    assert all(len(points) == 2 for points in result.on_plot("kept").values())
    assert [s.name for s in pareto(result, "read")[0].series] == ["duo", "snapkv", "topk"]


def test_a_run_goes_on_where_it_stopped(done, model, monkeypatch):
    result, asked, out = done
    folder = next(out.iterdir())
    lines = (folder / "progress.jsonl").read_text().splitlines()
    assert len(lines) == 6 * 3  # variants × chunks: needles in threes, and the text
    (folder / "progress.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    calls, ask = [], asking.Chunk.ask

    def counted(self, scheme):
        calls.append(1)
        return ask(self, scheme)

    monkeypatch.setattr(asking.Chunk, "ask", counted)
    again = wb.analyses.kv_policies.simulate(model, out=str(out), **{**asked, "batch": 3})
    assert len(calls) == 1 and str(again.summary()["points"]) == str(result.summary()["points"])


def test_the_report_and_the_table_hold_every_point(done):
    result, _, out = done
    page = (next(out.iterdir()) / "report.html").read_text()
    assert all(text in page for text in ("Recall against entries kept", "random ones", "Decoding costs what is kept"))
    console = Console(width=140, file=StringIO())
    console.print(result)
    text = console.file.getvalue()
    assert all(name in text for name in ("duo", "snapkv", "topk", "report.html"))
    assert "policy=duo,snapkv,topk" in result.command and "batch" not in result.command


def test_heads_are_found_where_none_are_given(model):
    result = wb.analyses.kv_policies.simulate(model, **{**SMALL, "texts": 0}, policy=("razor",), budgets=(0.5,))
    assert "needles asked here" in result.source
    assert result.scores.top(1) and np.isnan(result.points[0].perplexity[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["policy=razr"], "Did you mean 'razor'"),
        (["policy=duo:half"], "full, streaming, chunked"),
        (["budgets=0.1,1.5"], "budgets=1.5: shares between 0 and 1"),
        (["budgets=0"], "budgets=0"),
        (["nowhere.json"], "heads=nowhere.json does not exist"),
        (["question=never"], "use seen, after"),
        (["model=lama"], "Did you mean 'llama'?"),
        (["policy=duo,duo"], "each once"),
    ],
)
def test_bad_words_give_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and said in lines[0]
    assert not list(tmp_path.iterdir())


def test_scores_of_another_model_are_refused(model, tmp_path):
    other = wb.write_scores(HeadScores(np.ones((3, 8)), "random"), tmp_path / "scores.json")
    with pytest.raises(BadInput, match="another model's"):
        wb.analyses.kv_policies.simulate(model, heads=str(other), **SMALL)
    holes = tmp_path / "holes.json"
    holes.write_text(json.dumps({f"{i}-{j}": [0.5] if (i, j) != (1, 2) else [] for i in range(4) for j in range(16)}))
    with pytest.raises(BadInput, match="1 heads have no score"):
        wb.analyses.kv_policies.simulate(model, heads=str(holes), **SMALL)


def test_a_policy_that_the_model_does_not_serve_is_left_out_and_the_others_are_asked(tmp_path):
    gpt2 = wb.load(tiny_models.save("gpt2", tmp_path))
    setting = Setting(range(3), 8, 8, 64, 1.0)
    chosen, refused = variants(Simulate(policy=("streaming", "snapkv"), budgets=(0.3, 0.6)), setting, gpt2)
    assert {v.text for v in chosen} == {"snapkv"}
    assert len(refused) == 2 and "published constants hold" in refused[1]  # one line, whatever the budgets
    assert refused[0].startswith("streaming: ") and "plain rotary embeddings" in refused[0]
    with pytest.raises(BadInput, match="no policy can be simulated: streaming: "):
        variants(Simulate(policy=("streaming",)), setting, gpt2)


def test_what_so_few_lists_cannot_show_is_not_called_not_shown(done):
    result, _, _ = done

    def point(lists, recall=1.0):
        table = np.full((4, 7), recall)
        return Point("duo", 0.3, "full", True, {}, {"needle": table}, {"needle": np.full((4, 8), 0.3)}, (0.0,) * lists)

    def said(draws, *points):
        return replace(result, config=chz.replace(result.config, draws=draws), points=list(points)).verdict

    few = said(9, point(9), point(9))
    assert "cannot be shown with 9 lists (q is at least 0.1" in few and "draws=19 could" in few and "NOT" not in few
    assert "shown at 2 of 2 points" in said(19, point(19), point(19))
    assert "NOT shown at any of 2 points" in said(19, point(19, 0.0), point(19, 0.0))
    mixed = said(19, point(19), point(3))  # 1 / 20 of two points is .1
    assert "cannot be shown with 19 lists (q is at least 0.1" in mixed and "draws=39 could" in mixed
    assert "shown at 1 of 2 points" in said(39, point(39), point(3))
    assert "draws=" not in said(9, point(1)) and "cannot be shown with 1 list (q" in said(9, point(1))
