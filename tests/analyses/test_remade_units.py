"""A unit that is lost and gives something else when it is made again: what was made of the old is not taken for the new."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from workbench_analyses.atlas import Atlas
from workbench_analyses.atlas_parts.asking import draw
from workbench_analyses.atlas_parts.raising import raised
from workbench_analyses.atlas_parts.texts import Corpus, Shown
from workbench_analyses.atlas_parts.work import Work
from workbench_analyses.kv import heads_under_test
from workbench_analyses.sinks import passes
from workbench_analyses.sinks.found import Found
from workbench_analyses.visual.honest_table import honest_table
from workbench_analyses.visual.table_config import TableConfig
from workbench_analyses.windows import experiment as windows

import workbench as wb
from workbench.heads import HeadScores, ModelIdentity
from workbench.progress import progress
from workbench.runs import Remember, Run, unremembered
from workbench.shards import depending
from workbench.smallest_windows import grid
from workbench.tasks.scenes import scenes


def lose(run: str | None, *units: str) -> None:
    """The shards of these units."""
    assert run is not None
    for line in (Path(run) / "progress.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["unit"] in units:
            (Path(run) / "shards" / entry["shard"]).unlink(missing_ok=True)


@pytest.fixture
def done(monkeypatch):
    """Names of units that were worked at, in order."""
    true, names = Run.save, []

    def save(run, unit, *rest):
        names.append(unit)
        true(run, unit, *rest)

    monkeypatch.setattr(Run, "save", save)
    return names


def held() -> tuple[dict, Remember]:
    """What was remembered, and a `Remember` of it."""
    kept: dict = {}
    return kept, lambda unit, work: kept[unit] if unit in kept else kept.setdefault(unit, work())


def test_names_depend_on_all_that_is_looked_at_and_on_nothing_else():
    heads = [(0, 1), (2, 3)]
    assert depending("a", heads) == depending("a", np.array(heads)) == depending("a", [[0, 1], [2, 3]])
    assert depending("a", np.array([[0.1, np.nan]])) == depending("a", [[0.1, float("nan")]])
    others = [heads[::-1], [(0, 1)], [heads], {0: heads}, None]
    assert len({depending("a", x) for x in [heads, *others]} | {depending("b", heads)}) == 7


def test_checks_of_sinks_belong_to_their_heads_and_rows_to_their_candidates(tmp_path, monkeypatch, done):
    model = wb.load("planted-sink")
    monkeypatch.setattr("workbench_analyses.sinks.scan.against_retrieval", lambda *_: "not asked")
    monkeypatch.setattr("workbench_analyses.sinks.causal.windowed_outputs", lambda *_: None)
    small = {
        "tokens": 64,
        "samples": 2,
        "check_tokens": 32,
        "recent": 16,
        "epsilon_tokens": 16,
        "checked": 2,
        "controls": 1,
    }

    def scan(out):
        return wb.analyses.attention_sinks.scan(model, out=out, **small)

    def told(scan):
        sinks = {(s.text, s.head, s.key): s.held for s in scan.natural.sinks}
        return sinks, {c.parked.head: np.nan_to_num(c.loss).tolist() for c in scan.checks}

    first = scan(str(tmp_path))
    done.clear()
    lose(first.path, "natural-0")
    assert told(scan(str(tmp_path))) == told(first) and done == ["natural-0"], "the same again: nothing else is redone"
    lose(first.path, "natural-0")
    parked, pass_one = Found.parked, passes.first_pass

    def turned(*args):
        gave = pass_one(*args)
        return {**gave, "candidates": gave["candidates"][::-1]}

    def swapped(self, *args):
        first, second, *rest = parked(self, *args)
        return second, first, *rest

    monkeypatch.setattr(Found, "parked", swapped)
    monkeypatch.setattr(passes, "first_pass", turned)
    again, fresh = scan(str(tmp_path)), scan(None)
    assert [c.parked.head for c in again.checks] == [c.parked.head for c in first.checks][::-1]
    assert told(again) == told(fresh)
    assert len({tuple(np.ravel(x)) for x in told(fresh)[1].values()}) > 1, "heads that differ"


SMALL = {"context": 128, "samples": 2, "texts": 0, "depths": (10, 60), "draws": 1, "template": "none"}


@pytest.fixture
def heads(monkeypatch):
    """Scores that the heads under test get when they are asked for."""
    scores = [np.random.default_rng(1).random((1, 4, 8))]
    monkeypatch.setattr(heads_under_test, "_found", lambda *_: {"scores": scores[0]})
    return scores


def test_points_of_a_simulation_belong_to_their_heads(tmp_path, heads, done):
    model = wb.load("planted-copy")
    heads[0] = np.random.default_rng(1).random((1, model.n_layers, model.n_heads))
    asked = {**SMALL, "policy": ("duo", "headkv", "snapkv"), "budgets": (0.4,), "published": False, "tasks": ("none",)}

    def simulate(out):
        return wb.analyses.kv_policies.simulate(model, out=out, **asked)

    def told(result):
        return {p.text: ({k: v.tobytes() for k, v in p.quality.items()}, p.controls) for p in result.points}

    first = simulate(str(tmp_path))
    lose(first.path, "heads")
    heads[0] = 1 - heads[0]
    done.clear()
    again, fresh = simulate(str(tmp_path)), simulate(None)
    assert told(again) == told(fresh) != told(first)
    assert not [name for name in done if name.startswith("snapkv")], "it asks no heads"


def test_checks_of_windows_belong_to_their_windows(tmp_path, monkeypatch, heads, done):
    model = wb.load("planted-copy")
    shape = (model.n_layers, model.n_heads)
    heads[0] = np.random.default_rng(1).random((1, *shape))
    rng = np.random.default_rng(2)
    errors = [np.sort(rng.random((2, *shape, len(grid(128, 16)))), -1)[..., ::-1] * 0.2 for _ in range(2)]
    monkeypatch.setattr(windows, "median_errors", lambda *_: errors[0])

    def fit(out):
        return wb.analyses.fit_windows.fit(model, out=out, beside=(), prompts=2, **SMALL)

    def told(result):
        return [(c.name, c.point.quality["needle"].tobytes(), c.dealt) for c in result.checks]

    first = fit(str(tmp_path))
    lose(first.path, "errors")
    errors.reverse()
    second, fresh = fit(str(tmp_path)), fit(None)
    assert told(second) == told(fresh) != told(first)
    lose(first.path, "heads")
    heads[0] = 1 - heads[0]
    done.clear()
    third = fit(str(tmp_path))
    assert told(third) == told(fit(None)) != told(second)
    assert not [name for name in done if name.startswith("fitted")], "these windows are not those of a list"


def test_captions_of_a_method_belong_to_the_scores_that_it_read():
    model = wb.load("llava")
    sets = {part: {"ordinary": scenes(part, 1)} for part in ("choose", "report")}
    config = TableConfig(("by-divergence",), batch=4, longest=5, controls=1, questions=0, draws=20)
    values = np.random.default_rng(0).normal(size=(model.n_layers, model.n_heads))
    kept, remember = held()
    honest_table(model, {"vhd": HeadScores(values, "vhd")}, sets, config, remember)
    before = dict(kept)
    other = {"vhd": HeadScores(-values, "vhd")}
    told, fresh = (honest_table(model, other, sets, config, use).frame() for use in (remember, unremembered))
    assert told.equals(fresh)
    new = {name for name in kept if name not in before}
    assert len(new) == len(before) - 2, "what is said without any means stays"
    honest_table(model, other, sets, config, remember)
    assert len(kept) == len(before) + len(new)


def test_the_atlas_asks_again_for_other_words_and_other_pictures(monkeypatch):
    model = wb.load("planted-copy")
    kept, remember = held()
    with progress() as stages:
        work = Work(Atlas(model="planted-copy"), model, ModelIdentity("m", "c", "w"), remember, stages)
    shown = [Shown(name, (1, *tokens)) for name, tokens in (("a", (5, 6, 7)), ("b", (8, 9, 5)), ("c", (5, 6, 7)))]
    whole = {one.name: one.levels for one in draw(work, shown)}
    (left,) = draw(work, shown[1:2])
    np.testing.assert_array_equal(left.levels, whole["b"])
    assert len(kept) == 3, "pictures of one size and prompt are the same wherever they stand"
    words = np.arange(1, 31)
    texts = Corpus(torch.tensor([words.tolist()]), "here", 0.0, words, torch.arange(30)[None])
    reads = np.random.default_rng(0).integers(0, 30, (2, model.n_layers, model.n_heads, 4))
    first, second, again = (raised(work, texts, x)[0] for x in (*reads, reads[0]))
    plain = raised(replace(work, remember=unremembered), texts, reads[1])[0]
    assert first is not None and second is not None and again is not None and plain is not None
    np.testing.assert_array_equal(second.ids, plain.ids)
    np.testing.assert_array_equal(first.ids, again.ids)
    assert (first.ids != second.ids).any() and len(kept) == 5
