"""The visual scan: figures against independent code, the user's pictures, what is refused and how, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
import tiny_models
from PIL import Image
from rich.console import Console
from scipy import stats
from workbench_analyses.visual import measuring
from workbench_analyses.visual.agreement import agreements
from workbench_analyses.visual.behaviour import questions_of
from workbench_analyses.visual.report import _about
from workbench_analyses.visual.result import NAMES
from workbench_analyses.visual.scan import hash_of
from workbench_analyses.visual.sights import picture_files, readable, sets
from workbench_analyses.visual_heads import ScanVisual

import workbench as wb
from workbench.cli import main
from workbench.errors import BadInput, TooLarge, Unsupported
from workbench.heads import HeadScores
from workbench.jsonable import jsonable
from workbench.reference_models.recipes.scene_acceptance import figures
from workbench.tasks.object_words import Words
from workbench.tasks.pope import STRATEGIES, Frequencies
from workbench.tasks.scene_answers import yes_margins
from workbench.tasks.scenes import scenes

SMALL = {"samples": 10, "choose": 2, "report": 12, "proof": "none"}
TINY = {**SMALL, "samples": 5, "report": 2}


@pytest.fixture(scope="module")
def model():
    return wb.load("llava")


@pytest.fixture(scope="module")
def scan(model):
    return wb.analyses.visual_heads.scan(model, **SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes as a user's pictures, with annotations as COCO has them."""
    home = tmp_path_factory.mktemp("pictures")
    (home / "images").mkdir()
    shown = scenes("report", 24, counterfactual=True)
    words = sorted({w for s in shown for w in s.objects})
    for i, s in enumerate(shown):
        s.image.save(home / "images" / f"COCO_val2014_{i + 1:012d}.png")
    (home / "instances.json").write_text(json.dumps({
        "images": [{"id": i + 1} for i in range(len(shown))],
        "categories": [{"id": k, "name": w} for k, w in enumerate(words)],
        "annotations": [{"image_id": i + 1, "category_id": words.index(w)} for i, s in enumerate(shown) for w in s.objects],
    }))  # fmt: skip
    return home


def asked(folder, **options):
    return {"images": str(folder / "images"), "coco": str(folder / "instances.json"), **SMALL, "samples": 10, **options}


def test_behaviour_is_what_independent_code_says(model, scan):
    acts, theirs = scan.behaviour, figures(model, SMALL["report"])
    for kind, found in theirs["chair"].items():
        for name, value in found.items():
            assert acts.chair[kind].summary()[name] == pytest.approx(value, nan_ok=True), (kind, name)
    p, other = acts.partner, theirs["partner"]
    assert (p.n, p.ideal, p.false_yes.value) == (other["n"], other["ideal_false_yes"], other["false_yes"])
    assert p.excess.value == pytest.approx(other["excess"]) and p.auc.value == pytest.approx(other["auc"], abs=1e-6)
    shown = sets(scan.config)
    for kind in shown.kinds:
        sights = {s.name: s for s in shown["report"][kind]}
        for strategy in STRATEGIES:
            q = questions_of(shown, kind, strategy)
            yes = yes_margins(model, [(sights[x.image], x.object) for x in q]).numpy() > 0
            present = np.array([x.present for x in q])
            found, accuracy = acts.pope[kind][strategy], acts.pope_accuracy[kind][strategy]
            assert found.accuracy == pytest.approx((yes == present).mean()) == accuracy.value
            assert found.yes_ratio == pytest.approx(yes.mean()) and found.unparsed == 0
            assert accuracy.low <= accuracy.value <= accuracy.high
    for kind, found in acts.intervals.items():
        for name in ("chair_s", "chair_i", "chair_i_distinct", "recall", "length"):
            assert found[name].value == pytest.approx(getattr(acts.chair[kind], name))
            assert found[name].low <= found[name].value <= found[name].high


def test_sets_share_no_picture_and_scores_say_what_they_are_of(scan):
    shown = sets(scan.config)
    names = [s.name for purpose in shown.of.values() for group in purpose.values() for s in group]
    assert len(set(names)) == len(names) == 2 * (10 + 2 + 12)
    assert set(scan.scores) == {
        "vhd", "vhd_relative", "vhd_cosine", "vhd_blank", "image_mass", "causal_contrast", "localisation", "visual_sinks",
        "image_centric",
    }  # fmt: skip
    for name, scores in scan.scores.items():
        assert scores.verified and scores.groups is not None and scores.kv_heads == 4, name
        assert set(scores.groups) <= {s.name for group in shown["score"].values() for s in group}, name
    words = scan.heads.words
    assert scan.scores["causal_contrast"].n == len(words) > 40 and 0 < sum(w.invented for w in words) < len(words)
    told = scan.t_vhd()
    correct, invented = (np.mean([w.t_vhd for w in words if w.invented == i]) for i in (False, True))
    difference, n = told["correct − invented"]
    assert (difference.value, n) == (pytest.approx(correct - invented), len(words))
    assert difference.low < difference.value < difference.high


def test_rank_agreement_is_spearmans_with_an_interval_over_pictures():
    rng = np.random.default_rng(0)
    truth, names = rng.normal(size=(3, 8)), tuple(f"p{i}" for i in range(60))

    def scored(noise: float, sign: float = 1.0, seed: int = 0) -> HeadScores:
        samples = sign * truth + noise * np.random.default_rng(seed).normal(size=(60, 3, 8))
        return HeadScores.from_samples(samples, "made", groups=names)

    given = {"a": scored(1.0), "b": scored(1.0, seed=1), "away": scored(1.0, -1.0, 2), "noise": scored(1.0, 0.0, 3)}
    flat = HeadScores.from_samples(np.ones((60, 3, 8)), "flat", groups=names)
    found = {(x.first, x.second): x for x in agreements({**given, "flat": flat})}
    for (first, second), x in found.items():
        if "flat" in (first, second):
            assert np.isnan([x.spearman, x.low, x.high]).all(), "equal scores rank nothing"
            continue
        hand = stats.spearmanr(given[first].values.ravel(), given[second].values.ravel())[0]
        assert x.spearman == pytest.approx(hand) and x.low <= x.high and x.n == 24
    assert found["a", "b"].low > 0.9 and found["a", "away"].high < -0.9
    assert found["a", "noise"].low < 0 < found["a", "noise"].high, "scores of nothing agree with nothing"


def test_the_page_the_terminal_and_the_summary_hold_the_finding(scan):
    page, shown = scan.report(), Console(width=160, record=True, file=StringIO())
    shown.print(scan)
    text = shown.export_text()
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert len(page) < 4_000_000 and "Spearman" in text and "CHAIR_S" in text
    for said in ("not validated: proof=none", "yes of the ideal observer"):
        assert said in page and said in text
    summary = jsonable(scan.summary())
    assert summary["validation"] == "not validated: proof=none" and len(summary["top"]["vhd"]) == 10
    assert summary["verdict"].startswith("not validated") and summary["visual_sinks"]["tau"] == pytest.approx(
        3.06, abs=0.01
    )
    assert "model=llava" in scan.command and "samples=10" in scan.command


def test_a_run_resumes_and_keeps_its_files(model, tmp_path, monkeypatch):
    tiny = {**SMALL, "samples": 2, "report": 2}
    first = wb.analyses.visual_heads.scan(model, out=str(tmp_path), **tiny)
    from workbench_analyses.visual import asking, measuring

    for module, name in ((asking, "describe"), (asking, "answers"), (asking, "yes_margins"), (measuring, "_unit")):
        monkeypatch.setattr(module, name, lambda *_, **__: 1 / 0)
    second = wb.analyses.visual_heads.scan(model, out=str(tmp_path), **{**tiny, "batch": 2})
    assert first.path == second.path, "batch changes no number, so no question"
    for name, scores in first.scores.items():
        np.testing.assert_array_equal(scores.values, second.scores[name].values)
    run = tmp_path / first.path.split("/")[-1]
    assert wb.read_scores(run).values == pytest.approx(first.scores["vhd"].values)
    assert HeadScores.from_json(json.loads((run / "localisation.json").read_text())).n == 4
    frame = pd.read_parquet(run / "scores.parquet")
    assert set(frame.score) == set(first.scores) and len(frame) == 32 * len(first.scores)
    assert len(pd.read_parquet(run / "captions.parquet")) == 4


@pytest.fixture(scope="module")
def tiny(model):
    return wb.analyses.visual_heads.scan(model, **TINY)


def close(found, whole):
    assert found.behaviour == whole.behaviour and found.heads.captions == whole.heads.captions
    for name, scores in whole.scores.items():
        np.testing.assert_allclose(found.scores[name].values, scores.values, rtol=1e-3, atol=1e-5, err_msg=name)


def test_where_memory_runs_out_fewer_pictures_are_shown_at_a_time(model, tiny, narrow, capsys):
    """Captions, answers and heads put out, each said once; captions that are told in twos are read in twos."""
    went = narrow(model, 4)
    found = wb.analyses.visual_heads.scan(model, **TINY)
    assert max(went) == 4
    said = [line for line in capsys.readouterr().err.splitlines() if "memory ran out" in line]
    assert sorted(line.split(": ")[1] for line in said) == ["answers", "captions", "heads put out"]
    close(found, tiny)


def test_a_budget_counts_pictures_out(model, tiny, narrow):
    with pytest.raises(TooLarge, match="captions read: .* for one row, more than 100kB: raise memory= to") as caught:
        wb.analyses.visual_heads.scan(model, **TINY, memory="100kB")
    least = str(caught.value).split("raise memory= to ")[1].split(",")[0]
    went = narrow(model, 99)
    found = wb.analyses.visual_heads.scan(model, **TINY, memory=least)
    assert 0 < max(went) < model.n_heads and model.memory is None  # 40: five captions of each head
    close(found, tiny)


def test_the_users_pictures(model, folder):
    found = wb.analyses.visual_heads.scan(model, **asked(folder, batch=7))
    assert found.counts["report"] == {"pictures": 12} and found.behaviour.partner is None
    assert found.behaviour.chair["pictures"].recall > 0.7, "files hold what the scenes held"
    assert "of its captions invent an object" in found.verdict and not isinstance(found.looks, str)
    assert found.scores["vhd"].n == 10


def test_a_model_that_names_nothing_is_told_so(folder, tmp_path):
    """A random model: no word names an object, so there is no contrast; all else is there."""
    other = wb.load(tiny_models.save("llava", tmp_path))
    found = wb.analyses.visual_heads.scan(other, **asked(folder, samples=2, report=2, longest=4))
    assert "0 of 0 words are invented" in found.heads.left_out["causal_contrast"]
    assert "causal_contrast" not in found.scores and found.report()


def test_other_pictures_under_the_same_names_are_another_question(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "x")
    shown = sets(ScanVisual(**asked(tmp_path / "x")))
    first = hash_of(shown)
    assert hash_of(sets(ScanVisual(**asked(tmp_path / "x")))) == hash_of(sets(ScanVisual(**asked(folder)))) == first
    other_words = replace(shown, words=Words({**shown.words.objects, "blorp": "cup"}))
    other_habit = replace(shown, habit=Frequencies.of([("cup", "fork")]))
    found = [first, hash_of(other_words), hash_of(other_habit)]
    Image.new("RGB", (64, 64)).save(shown["report"]["pictures"][0].path)
    assert len({*found, hash_of(shown)}) == 4


def test_pictures_that_a_model_joins_are_told_one_at_a_time(tmp_path, monkeypatch):
    """Qwen-VL: any batch gives the same arrays, and places are known."""
    import tiny_processors

    qwen = wb.load(tiny_processors.save("qwen2_5_vl", tmp_path))
    monkeypatch.setattr(measuring, "describing", lambda _: tiny_processors.ASKED["qwen2_5_vl"])
    shown = sets(ScanVisual(**SMALL))
    units = [
        measuring._unit(ScanVisual(batch=b, longest=3), qwen, shown, shown["score"]["ordinary"][:3], 1.0, [])[0]
        for b in (1, 3)
    ]
    assert np.isfinite(units[0]["entropy"]).all() and len(units[0]["entropy"]) == 3
    for name, x in units[0].items():
        np.testing.assert_array_equal(x, units[1][name], err_msg=name)


def test_the_contrast_is_called_by_its_measure(scan):
    def of(measure: str):
        held = scan.heads.scores["causal_contrast"]
        other = replace(held, parameters={**held.parameters, "measure": measure})
        return replace(scan, heads=replace(scan.heads, scores={**scan.heads.scores, "causal_contrast": other}))

    page, shown = of("log").report(), Console(width=200, record=True, file=StringIO())
    shown.print(of("log"))
    assert "causal contrast of log p" in page and "causal contrast of log p" in shown.export_text()
    assert "log p in nats, invented − correct" in page and "probability, invented − correct" not in page
    held = of("absolute")
    assert held.names["causal_contrast"] == "causal contrast of |Δp|" and scan.names == NAMES
    assert _about("causal_contrast", held.scores["causal_contrast"])[1].endswith("it has no direction.")


def test_tau_reaches_the_table(monkeypatch):
    from types import SimpleNamespace as Fake

    from workbench_analyses.visual import honest_table as home
    from workbench_analyses.visual import scan as steps

    monkeypatch.setattr(home, "honest_table", lambda model, scores, sets, config, *_: config)
    job = Fake(config=ScanVisual(tau=1.5), stages=Fake(stage=lambda _: None), model=None, remember=None)
    assert steps._table(job, Fake(scores={}), {}, []).tau == 1.5


def test_pictures_that_cannot_be_read_are_named(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "x")
    files = sorted((tmp_path / "x" / "images").iterdir())
    files[3].write_bytes(files[3].read_bytes()[:200])
    files[5].write_text("no picture")
    config = ScanVisual(**asked(tmp_path / "x", out=None))
    with pytest.raises(BadInput, match=r"cannot be read as a picture .*unreadable=skip"):
        sets(config)
    shown = sets(ScanVisual(**asked(tmp_path / "x", unreadable="skip")))
    assert len(shown.skipped) == 2 and all("cannot be read as a picture" in line for line in shown.skipped)
    kept = [s.path for purpose in shown.of.values() for s in purpose["pictures"]]
    assert len(kept) == 22 and not {files[3], files[5]} & set(kept), "22 pictures are dealt where 24 were asked for"
    assert len(readable(picture_files(folder / "images"), 5, "refuse")[0]) == 5


def test_what_cannot_be_meant_is_said_in_a_line(folder, tmp_path):
    (tmp_path / "few").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "few" / "COCO_1.png")
    (tmp_path / "other.json").write_text('{"pictures": []}')
    scan = wb.analyses.visual_heads.scan
    for options, kind, said in [
        ({"model": "llama"}, Unsupported, "llama: a model of text alone"),
        ({"model": "planted-copy"}, Unsupported, "a model of text alone"),
        (asked(folder, coco=None), BadInput, "give coco="),
        (asked(folder, coco=str(tmp_path / "other.json")), BadInput, "no instances file of COCO's"),
        (asked(folder, images=str(tmp_path)), BadInput, "no picture in it"),
        (asked(folder, images=str(tmp_path / "nowhere")), BadInput, "no such folder"),
        (asked(folder, images=str(tmp_path / "few")), BadInput, "1 pictures can be read"),
        ({"coco": "x"}, BadInput, "give images="),
        ({"contrast": "odds"}, BadInput, "contrast=odds"),
        ({"unreadable": "ask"}, BadInput, "unreadable=ask"),
        ({"tau": 11.0, **SMALL}, BadInput, "could never exceed it"),
        ({"samples": 1}, BadInput, "samples=1"),
    ]:
        with pytest.raises(kind, match=said) as caught:
            scan(**options)
        assert "\n" not in str(caught.value)


def test_the_command_refuses_a_model_of_text_before_it_loads_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["scan-visual", "model=llama"]) == 2
    told = capsys.readouterr().err
    assert told.strip().count("\n") == 0 and "model of text alone" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_whole_scan_leads_with_whether_acting_helps(model, tmp_path):
    found = wb.analyses.visual_heads.scan(model, out=str(tmp_path), samples=16, choose=16, report=24)
    assert found.verdict.startswith(found.table.sentence[:40]) and found.summary()["validation"]["sentence"]
    assert (tmp_path / found.path.split("/")[-1] / "table.parquet").is_file()
