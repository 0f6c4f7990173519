"""The sink scan: sinks where they are planted and nowhere else, what the check says of them, and what is kept."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import beginnings
import numpy as np
import pandas as pd
import pytest
import tiny_architectures
import tiny_models
import torch
from rich.console import Console
from scipy import stats
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.sinks import causal
from workbench_analyses.sinks.against import Against

import workbench as wb
from workbench.cli import main
from workbench.errors import BadInput
from workbench.heads import Head
from workbench.jobs import Job
from workbench.jsonable import canonical
from workbench.reference_models.catalogue import PLANTED

SHARED = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).parents[2].parent / "shared"))
STORIES = SHARED / "data" / "models" / "stories260k"
SINK = PLANTED["planted-sink"]
SMALL = {"tokens": 256, "samples": 2, "check_tokens": 96, "controls": 1, "recent": 24}


@pytest.fixture(scope="module")
def planted():
    return wb.load("planted-sink")


@pytest.fixture(scope="module")
def found(planted):
    return wb.analyses.attention_sinks.scan(planted, **{**SMALL, "samples": 8, "check_tokens": 72})


def roles(*names):
    return {Head(*place) for name in names for place in SINK.roles[name]}


def test_the_scan_returns_exactly_the_planted_sinks(found):
    later = roles("sink-later")
    assert {p.head for p in found.parked if p.first} == roles("sink-bos", "sink-bos-value")
    assert {p.head for p in found.parked if not p.first} == later
    assert {found.words[p.token] for p in found.parked if p.head in later} == {"."}
    assert {(found.words[t.token], t.first, t.pairs) for t in found.natural.by_token()} == {
        ("<bos>", True, 7),
        (".", False, 3),
    }
    assert "7 of 24 heads park on the first token <bos>, 3 on a later token (“.”)" in found.verdict


def test_the_check_tells_who_needs_the_sink(found):
    verdicts = {c.parked.head: c.verdict("kl") for c in found.checks}
    assert found.measure == "kl" and set(verdicts) == {p.head for p in found.parked}
    needed = roles("copy") | {Head(0, 0)}  # the counter of full stops parks between them
    assert {h for h, v in verdicts.items() if v == "needed as a place to park"} == needed
    assert {h for h, v in verdicts.items() if v == "needed: its value is read"} == roles("sink-bos-value")
    assert {v for h, v in verdicts.items() if h not in needed | roles("sink-bos-value")} == {"parked, not needed"}
    says = {c.parked.head: c.says for c in found.checks}
    assert says[Head(1, 2)] == pytest.approx(1.0, abs=0.02) and says[Head(1, 4)] == pytest.approx(0, abs=1e-6)
    for check in found.checks:
        assert check.controls and not {*check.controls} & {p.head for p in found.parked}


def test_the_check_is_paired_and_says_its_interval_and_n(found):
    stated = {(c["layer"], c["head"]): c["more_than_controls"] for c in found.summary()["checks"]}
    frame = found.checks_frame().set_index(["layer", "head", "edit"])
    for check in found.checks:
        head = check.parked.head
        for at, op in enumerate(causal.OPS):
            each = check.kl[:, at] - check.control_kl[:, at]
            d = check.beyond[op, "kl"]
            assert (d.mean, d.n) == (pytest.approx(each.mean()), 8) and each.min() - 1e-12 <= d.low <= d.mean <= d.high
            assert stated[head][op]["low"] == d.low and frame.loc[(*head, op), "beyond_kl_n"] == 8
    page, shown = found.report(), Console(width=200, record=True, file=StringIO())
    shown.print(found)
    d = next(c for c in found.checks if c.parked.head == Head(1, 4)).beyond["key blocked", "kl"]
    assert found.too_few is None and replace(found, checks=found.checks * 2).too_few.endswith("samples=9 can")
    assert f"{d.mean:.3f} ({d.low:.3f} to {d.high:.3f})" in shown.export_text()
    assert "in nats, head minus controls" in page and "Benjamini–Hochberg over the 10 heads" in page


def test_retrieval_heads_park_when_there_is_nothing_to_retrieve(found):
    heads = found.against.retrieval_heads()
    assert set(heads) == roles("copy") and found.against.base == 1
    for head in heads:
        asked, idle, (_, low, _) = found.against.parking(head)
        assert asked < 0.05 and idle > 0.95 and low > 0.9
    assert not any(found.against.recall[h].min() < 1 for h in found.against.recall), "any copy head suffices"
    got = found.against.recalled(Head(1, 4), "key blocked")
    low = stats.binomtest(4, 4).proportion_ci(method="wilson").low
    assert got == (1, pytest.approx(low), pytest.approx(1), 4) and 0.5 < low < 0.52, "four needles tell little"
    assert found.against.recalled(Head(0, 3), "key blocked") is None
    assert f"unedited 1.00 [{found.against.unedited().low:.2f}, 1.00], n = " in found.report()


def test_the_page_and_the_tables_hold_the_finding(found):
    page = found.report()
    assert "needed as a place to park" in page and "7 of 24 heads" in page and len(page) < 2_500_000
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert json.dumps(found.summary()["parked"]) and "T = 256 tokens, <bos> first, no padding" in page.replace(
        "&lt;", "<"
    ).replace("&gt;", ">")
    frame = found.sinks_frame()
    assert set(frame[frame.texts == "natural"].token) == {"<bos>", "."} and (frame.held >= 0.5).all()
    assert len(found.checks_frame()) == len(found.checks) * len(causal.EVERY)


def test_llama_has_no_first_token_sink():
    scan = wb.analyses.attention_sinks.scan("llama", samples=3, proof="none")
    assert scan.verdict.startswith("no first-token sink: the largest mean attention to <bos> is 0.2")
    assert "L0H8" in scan.verdict and scan.verdict.endswith("none parks on a later token; not validated")
    assert not scan.parked and scan.near and scan.epsilon_rate(scan.natural) > 10, "at T = 64 it is only less spread"
    best = scan.scores.values.max()
    assert 0.2 < best < 0.3 and scan.natural.rate.mean(0).max() > best + 0.1


def test_bfloat16_sees_the_same_heads():
    options = {"tokens": 128, "samples": 2, "proof": "none", "recent": 8, "epsilon": 0.2}
    full, half = (
        wb.analyses.attention_sinks.scan(wb.load("llama", dtype=d), **options) for d in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(half.scores.values, full.scores.values, atol=0.02)
    assert {p.head for p in half.parked} == {p.head for p in full.parked} != set()


@pytest.mark.skipif(not STORIES.is_dir(), reason="stories260k is not in the shared data folder")
def test_stories_has_none_either_and_says_why_retrieval_is_missing():
    scan = wb.analyses.attention_sinks.scan(str(STORIES), **{**SMALL, "checked": 1})
    assert scan.verdict.startswith("no first-token sink") and scan.epsilon_rate(scan.natural) == 0
    assert scan.against.startswith("no comparison with retrieval") and scan.against in scan.report().lower()
    assert {c.verdict("loss") for c in scan.checks} == {"not checked: no sink within check_tokens"}
    few = "2 texts cannot show that one of 1 heads needs its sink; samples=5 can"
    assert scan.verdict.endswith(f"of the 1 nearest heads none need their sink, 1 not settled ({few})")
    scan = wb.analyses.attention_sinks.scan(str(STORIES), **{**SMALL, "checked": 1, "check_tokens": 256})
    assert {c.verdict("loss") for c in scan.checks} == {"parked, not needed"}
    assert scan.told(scan.checks[0]) == "not needed" and scan.verdict.endswith("nearest heads none need their sink")


def test_a_learned_sink_is_the_mass_that_rows_lack(tmp_path):
    model = wb.load(tiny_models.save("gpt_oss", tmp_path))
    scan = wb.analyses.attention_sinks.scan(model, tokens=64, samples=2, check_tokens=64, recent=8, checked=1)
    tokens = scan.natural.texts.tokens
    rows = wb.observe(model, tokens, [wb.probes.mass([(0, 64)])])["mass"][..., 0].sum(-1) / 64
    expected = 1 - rows.transpose(0, 1).double().numpy()
    np.testing.assert_allclose(scan.natural.learned, expected, atol=1e-4)
    assert expected.max() > 0.05 and "learned sink takes" in scan.report()
    plain = wb.load(tiny_models.save("llama", tmp_path / "plain"))
    assert torch.isnan(wb.observe(plain, tokens, [wb.probes.sink_mass()])["sink_mass"]).all()


def test_layers_without_softmax_attention_leave_no_hole_in_the_page(tmp_path):
    model = wb.load(tiny_models.save("qwen3_next", tmp_path, of=tiny_architectures.config("qwen3_next")))
    scan = wb.analyses.attention_sinks.scan(model, tokens=64, samples=2, proof="none", recent=8)
    assert np.isnan(scan.scores.values[0]).all() and sorted(model.seam.layers) == [1]
    assert re.search(r"largest attention to the first token in layer 1: 0\.\d\d", scan.report())
    assert "below ε = 0.3;" in scan.verdict


def test_the_verdict_does_not_call_a_mean_above_epsilon_below_it(found):
    calm = replace(found, parked=(), config=ScanSinks(**{**SMALL, "epsilon": 0.2}))
    assert "above ε = 0.2, but not as a sink" in calm.verdict


def test_a_sample_without_the_sinks_token_is_left_out_of_the_parking(found):
    rng = np.random.default_rng(5)
    asked, idle = rng.random((2, 6, 1, 2))
    part = asked.copy()
    part[2, 0, 1] = np.nan
    against = Against(found.scores, part, idle, {}, 1.0, 6)
    kept = [0, 1, 3, 4, 5]
    mass, without, (change, low, high) = against.parking(Head(0, 1))
    assert (mass, without) == pytest.approx((asked[kept, 0, 1].mean(), idle[kept, 0, 1].mean()))
    assert change == pytest.approx(without - mass) and low < change < high
    assert against.parking(Head(0, 0))[0] == pytest.approx(asked[:, 0, 0].mean())


def test_the_run_folder_resumes_and_the_batch_is_no_question(tmp_path):
    model = wb.load(tiny_models.save("llama", tmp_path / "model"))
    options = {"tokens": 64, "samples": 2, "check_tokens": 64, "recent": 8, "checked": 1, "out": str(tmp_path / "runs")}
    scan = wb.analyses.attention_sinks.scan(model, **options)
    folder = Path(scan.path)
    assert json.loads((folder / "run.json").read_text())["state"] == "done"
    assert len(pd.read_parquet(folder / "scores.parquet")) == 24 * 4
    assert {"report.html", "sinks.parquet", "checks.parquet", "scores.json"} <= {f.name for f in folder.iterdir()}
    assert wb.read_scores(folder).top(3).heads == scan.scores.top(3).heads
    sorted((folder / "shards").iterdir())[0].unlink()
    again = wb.analyses.attention_sinks.scan(model, **options, batch=1)
    assert again.path == scan.path
    np.testing.assert_array_equal(again.scores.values, scan.scores.values)


@pytest.mark.parametrize(
    ("name", "more"), [("attention_sinks", {"recent": 8}), ("atlas", {"sequences": 0, "scenes": 0})]
)
def test_texts_that_were_changed_are_another_question(tmp_path, name, more, monkeypatch):
    class Asked(Exception):
        pass

    def running(job, command, question):
        raise Asked(canonical(question))

    monkeypatch.setattr(Job, "running", running)
    model, file, asked = wb.load("planted-sink"), tmp_path / "mine.txt", []
    for text in ("red blue ", "red blue ", "blue red "):
        file.write_text(text * 200)
        with pytest.raises(Asked) as caught:
            scan = getattr(getattr(wb.analyses, name), "scan" if name == "attention_sinks" else "atlas")
            scan(model, texts=str(file), tokens=64, samples=2, **more)
        asked.append(str(caught.value))
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokens": 8192}, "takes 4096; set tokens=4096 or less"),
        ({"tokens": 10}, "at least 64"),
        ({"tau": 20.0}, "√d = 14.1"),
        ({"a": 0.5}, "at least 1"),
        ({"proof": "full"}, "use default, none"),
        ({"recent": 300}, "leave something out"),
        ({"tokens": 64}, "tokens=64 and check_tokens=256: give 1 to 59"),
        ({"seed": -1}, "seed=-1: give at least 0"),
        ({"epsilon_tokens": 600}, "2 to tokens=512"),
        ({"texts": "nowhere"}, "cannot be read"),
    ],
)
def test_bad_options_are_said_in_one_line(planted, options, words):
    with pytest.raises(BadInput, match=words) as error:
        wb.analyses.attention_sinks.scan(planted, **options)
    assert "\n" not in str(error.value)


def test_own_texts_are_cut_and_short_ones_are_named(planted, tmp_path):
    (tmp_path / "a.txt").write_text("the old lamp of alice was red . " * 60)
    (tmp_path / "b.txt").write_text("ben found a red hat near the river . " * 60)
    scan = wb.analyses.attention_sinks.scan(
        planted, texts=str(tmp_path), tokens=100, samples=5, proof="none", bos=False
    )
    assert scan.natural.texts.tokens.shape == (5, 100) and "no BOS" in scan.conditions
    (tmp_path / "c.txt").write_text("too short .")
    with pytest.raises(BadInput, match=r"c\.txt: 4 tokens, shorter than tokens=100"):
        wb.analyses.attention_sinks.scan(planted, texts=str(tmp_path), tokens=100, samples=2, proof="none")
    (tmp_path / "c.txt").unlink()
    with pytest.raises(BadInput, match="fewer than samples=90"):
        wb.analyses.attention_sinks.scan(planted, texts=str(tmp_path), tokens=100, samples=90)


def test_random_texts_hold_no_id_that_the_model_lacks(tmp_path):
    model = wb.load(tiny_models.save("llama", tmp_path))
    model.tokenizer.add_tokens([f"more{i}" for i in range(2000)])
    scan = wb.analyses.attention_sinks.scan(model, tokens=64, samples=2, proof="none", recent=8)
    assert int(scan.random.texts.tokens.max()) < model.bridge.cfg.d_vocab < len(model.tokenizer)


def test_a_model_without_bos_is_scanned_as_it_begins_texts_and_its_scores_say_so(tmp_path):
    """Pythia: TransformerLens would put EOS first; BOS = EOS is put where it is asked for. StableLM: there is none."""
    scan, small = wb.analyses.attention_sinks.scan, {
        "tokens": 64, "samples": 2, "epsilon_tokens": 8, "check_tokens": 64, "recent": 8, "proof": "none",
    }  # fmt: skip
    pythia = wb.load(beginnings.save("gpt_neox", tmp_path / "pythia"))
    plain, asked = scan(pythia, out=str(tmp_path / "runs"), **small), scan(pythia, bos=True, **small)
    assert 2 not in plain.natural.texts.tokens[:, 0] and (asked.natural.texts.tokens[:, 0] == 2).all()
    assert "no BOS, no padding" in plain.conditions and "<eos> first" in asked.conditions
    page = plain.report()
    assert "S_first" in page and "S_BOS" not in page and "S_BOS" in asked.report()
    question = json.loads((Path(plain.path) / "run.json").read_text())["question"]
    assert question["bos"] is False and question["begins"] == []
    stable = wb.load(beginnings.save("stablelm", tmp_path / "stable"))
    assert "the first token" in scan(stable, **small).verdict
    with pytest.raises(BadInput, match="bos=true: this model has no BOS token; leave bos= out"):
        scan(stable, bos=True, **small)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["token=9"], "Did you mean 'tokens'?"),
        (["tokens=9"], "at least 64"),
        (["texts=nowhere.txt"], "cannot be read"),
        (["model=lama"], "Did you mean 'llama'?"),
    ],
)
def test_the_command_says_it_in_one_line_and_exits_with_2(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["scan-sinks", *words]) == 2
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) == 1 and said in told
    assert not list(tmp_path.iterdir())


def test_massive_activations_name_the_sink_dimensions(tmp_path):
    """A first token whose embedding holds one huge number: the dimension is found, and the token stands out in it."""
    model = wb.load(tiny_models.save("llama", tmp_path))
    model.bridge.original_model.model.embed_tokens.weight.data[1, 7] = 1e5
    scan = wb.analyses.attention_sinks.scan(model, tokens=64, samples=2, proof="none", recent=8)
    assert scan.dims == [7] and scan.natural.massive_layers(100, 1000) == [0, 1, 2]
    assert scan.tau == pytest.approx(20 * (32 / 4096) ** 0.5)
    assert [(scan.words[i], texts, layers) for i, texts, layers, _ in scan.natural.phi_tokens(scan.tau)] == [
        ("<bos>", 2, 3)
    ]
    assert scan.natural.phi[:, :, 0] == pytest.approx(32**0.5, rel=1e-3), "nothing else is left of the token"
    assert "sink dimensions [7]" in scan.report()
    calm = wb.analyses.attention_sinks.scan(model, tokens=64, samples=2, proof="none", recent=8, massive_least=1e6)
    assert calm.dims == [] and "Φ > τ" not in calm.report()
