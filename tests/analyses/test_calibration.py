"""Calibration where its effect is known by construction, against plain forwards, and where there is nothing to do."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console
from workbench_analyses.calibrate_heads import CalibrateHeads
from workbench_analyses.calibration.alone import each_alone, rule_of
from workbench_analyses.calibration.asked import tried_layers
from workbench_analyses.calibration.experiment import halves
from workbench_analyses.calibration.lists import margins_of_lists

import workbench as wb
from workbench.choosing import choose
from workbench.errors import BadInput
from workbench.head_lists import act_list, head_list, read_heads
from workbench.reference_models.catalogue import PLANTED
from workbench.reference_models.recipes import grammar
from workbench.sinks import prompt_sinks
from workbench.tasks.assembling import Assembler
from workbench.tasks.choices import ChoiceSample, choice_samples

ROLES = PLANTED["planted-calibrate"].roles
HELP, HARM = ROLES["help"][0], ROLES["harm"][0]
STOP = grammar.INDEX["."]


@pytest.fixture(scope="module")
def planted():
    return wb.load("planted-calibrate")


@pytest.fixture(scope="module")
def found(planted):
    return wb.analyses.calibrate_heads.calibrate(planted, samples=60)


def rewritten(model, sample, head, keys, beta=0.4):
    """The margin with one head's whole pattern rewritten by hand, key by key, on the eager bridge, alone, unpadded."""

    def hook(pattern, hook):
        new = pattern.clone()
        p = pattern[0, head[1]].double()
        others = [k for k in range(p.shape[1]) if k not in keys and k != 0]
        for row in p:
            receiving, freed = row[others].sum(), (1 - beta) * row[keys].sum()
            if receiving > 0:
                row[others] *= 1 + freed / receiving
                row[keys] *= beta
        assert torch.allclose(p.sum(-1), torch.ones(len(p)).double(), atol=1e-5)
        new[0, head[1]] = p.float()
        return new

    tokens = torch.tensor([sample.prompt])
    name = f"blocks.{head[0]}.attn.hook_pattern"
    logits = model.bridge.run_with_hooks(tokens, fwd_hooks=[(name, hook)])[0, -1].double().log_softmax(-1)
    scores = [float(logits[c[0]]) for c in sample.choices]
    return scores[sample.answer] - max(s for i, s in enumerate(scores) if i != sample.answer)


def test_selection_returns_exactly_the_head_that_helps(found):
    assert found.alone.helpful == (HELP,) and found.alone.harmful == (HARM,)
    accuracy = (found.alone.margin > 0).mean()
    gained = {(r["layer"], r["head"]): r["acc_cal"] - r["acc_base"] for r in found.rows()}
    assert 0.3 <= accuracy <= 0.7 and gained[HELP] >= 0.2 and gained[HARM] <= -0.05
    assert all(gained[h] == 0 for h in found.alone.heads if h not in (HELP, HARM))
    silent = [i for i, h in enumerate(found.alone.heads) if h not in (HELP, HARM)]
    assert not found.alone.change[silent].any() and (found.alone.p[silent] == 1).all()


def test_the_list_helps_where_it_was_not_chosen_and_random_lists_do_not(found):
    j = found.judgement
    assert j.n == 30 and j.chosen.accuracy >= j.accuracy + 0.2 and j.chosen.p <= 0.01 and j.chosen.spoiled == 0
    assert (
        j.enumerated and len(j.controls) == 7 and max(c.gain for c in j.controls) <= 0 and j.p == pytest.approx(1 / 8)
    )
    assert found.helps and "the margin rises more than with 7 matched lists, all there are" in found.verdict
    assert "on 30 held-out samples accuracy rises (" in found.verdict
    assert "p = 0.125, the least that so few can give" in found.verdict


def test_eligible_pairs_are_those_of_heads_that_park_beyond_the_first_token(found):
    parked = {h for h, share in zip(found.alone.heads, found.alone.parked, strict=True) if share > 0}
    assert parked == {HELP, HARM, *ROLES["sink-later"]}
    assert found.alone.eligible == (len(parked) * found.alone.n, len(found.alone.heads) * found.alone.n)
    assert found.chance == "eligible pairs: 180 of 720 (head, sample) pairs have a sink to calibrate (25.0%)"
    assert found.verdict.startswith(found.chance)


def test_each_change_is_that_of_a_pattern_rewritten_by_hand(planted):
    samples = choice_samples("needle-choice", Assembler(planted.tokenizer), 6, 11)
    config = CalibrateHeads(model="planted-calibrate", batch=5)
    got = each_alone(config, planted, (0, 1, 2), samples)
    plain = wb.load("planted-calibrate")
    for i, sample in enumerate(samples):
        stop = [sample.prompt.index(STOP)]
        for head in (HELP, HARM, (1, 5)):
            wanted = rewritten(plain, sample, head, stop)
            assert got["margin"][i] + got["change"][head][i] == pytest.approx(wanted, abs=2e-3)  # codes of 5 nats


def test_on_a_trained_model_too_and_with_choices_of_several_tokens():
    model = wb.load("llama")
    assembler = Assembler(model.tokenizer)
    samples = choice_samples("needle-choice", assembler, 2, 2)
    long = [
        ChoiceSample(
            s.name, s.prompt, tuple((*c, STOP, assembler.piece("the")[0]) for c in s.choices), s.texts, s.answer
        )
        for s in samples
    ]
    config = CalibrateHeads(model="llama", batch=7)
    sinks = prompt_sinks(model, [s.prompt for s in samples], rule_of(config))
    layer, i, head = next(at for at in sinks.any(-1).nonzero().tolist() if at[0] >= 1)
    keys = (sinks[layer, i, head].nonzero().flatten() - (sinks.shape[-1] - len(samples[i].prompt))).tolist()
    for given in (samples, long):
        got = each_alone(config, model, (layer,), given)
        edit = wb.calibrate([(layer, head)], keys=keys)
        alone = choose(model, [given[i]], edit) - choose(model, [given[i]])
        assert got["change"][layer, head, i] == pytest.approx(float(alone), abs=1e-4)
        assert not np.delete(got["change"], layer, 0).any()
    wanted = rewritten(wb.load("llama"), samples[i], (layer, head), keys)
    got = each_alone(config, model, (layer,), samples)
    assert got["margin"][i] + got["change"][layer, head, i] == pytest.approx(wanted, abs=2e-4)


def test_layers_below_the_lowest_are_run_once_whatever_is_tried():
    model = wb.load("llama")
    samples = choice_samples("needle-choice", Assembler(model.tokenizer), 3, 3)
    config = CalibrateHeads(model="llama", absolute=0.02)

    def runs(layers):
        ran = []
        with model.bridge.hooks(fwd_hooks=[("blocks.0.attn.hook_z", lambda z, hook: ran.append(1))]):
            return each_alone(config, model, layers, samples)["change"], len(ran)

    whole, times = runs((3, 1, 2))
    for layer in (1, 2, 3):
        alone, least = runs((layer,))
        np.testing.assert_allclose(whole[layer], alone[layer], rtol=0, atol=1e-6)
        assert alone[layer].any() and times == least


def test_a_list_of_one_head_gives_what_the_head_gives_alone(planted):
    samples = choice_samples("needle-choice", Assembler(planted.tokenizer), 8, 4)
    config = CalibrateHeads(model="planted-calibrate")
    alone = each_alone(config, planted, (1,), samples)
    lists = margins_of_lists(config, planted, [(), (HELP,), (HELP, HARM)], samples)
    assert np.allclose(lists[0], alone["margin"], atol=1e-3)
    assert np.allclose(lists[1], alone["margin"] + alone["change"][HELP], atol=1e-3)
    assert not np.allclose(lists[2], lists[1], atol=0.05)


def test_halves_are_fixed_by_names_and_do_not_meet(planted):
    samples = choice_samples("needle-choice", Assembler(planted.tokenizer), 60, 0)
    select, hold = halves(samples, 0)
    assert halves(samples[::-1], 0) == (select, hold) and len(select) == len(hold) == 30
    assert not {s.name for s in select} & {s.name for s in hold}
    assert halves(samples, 1)[0] != select


def test_nothing_to_calibrate_is_not_called_a_negative(planted):
    """No head holds more than 99 % of anything beyond the first token on average but those that park for good."""
    got = wb.analyses.calibrate_heads.calibrate(planted, samples=40, absolute=0.9999999)
    assert got.alone.eligible[0] < 0.3 * got.alone.eligible[1]
    none = wb.analyses.calibrate_heads.calibrate(planted, samples=40, layers=(0,))
    assert none.verdict.endswith("(0.0%): not applicable") and none.alone.eligible[0] == 0
    assert none.judgement.chosen is None and none.judgement.every.gain == pytest.approx(0, abs=1e-4)


def test_prompts_too_short_for_the_corrected_rule_are_said_and_not_called_without_sinks(planted, tmp_path):
    rows = [{"prompt": "the old lamp", "choices": ["red", "amber"], "answer": i % 2} for i in range(40)]
    (tmp_path / "short.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"task": str(tmp_path / "short.jsonl"), "samples": 40}
    with pytest.raises(BadInput, match="no prompt has 32 tokens.* rule=paper"):
        wb.analyses.calibrate_heads.calibrate(planted, **options)
    assert wb.analyses.calibrate_heads.calibrate(planted, **options, rule="paper").alone.n == 20


def test_a_run_is_resumed_and_keeps_its_list(planted, tmp_path):
    options = {"samples": 40, "layers": (1,), "out": str(tmp_path)}
    first = wb.analyses.calibrate_heads.calibrate(planted, **options)
    again = wb.analyses.calibrate_heads.calibrate(planted, **options)
    assert first.path == again.path and np.array_equal(first.alone.change, again.alone.change)
    folder = tmp_path / first.path.rpartition("/")[2]
    record = json.loads((folder / "run.json").read_text())
    assert record["state"] == "done" and record["summary"]["chosen"] == [list(h) for h in first.alone.helpful]
    assert [tuple(h) for h in read_heads(folder / "head_list.json")] == list(first.alone.helpful)
    assert not (folder / "head_list_act.json").exists()  # its layout has no place for layer 1
    page = (folder / "report.html").read_text()
    assert page.index("Eligible pairs: ") < page.index("A sink is a key")


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """The planted heads that help and harm, in both layouts where both can name them."""
    folder = tmp_path_factory.mktemp("lists")
    (folder / "help.json").write_text(head_list([HELP], {"model": "planted-calibrate", "calibrate": {"beta": 0.2}}))
    (folder / "harm.json").write_text(head_list([HARM], {}))
    (folder / "act.json").write_text(act_list([(2, 1), (2, 4)], 3))
    return folder


def test_a_given_list_is_judged_as_the_run_that_chose_it_judges_it(planted, found, lists):
    given = wb.analyses.calibrate_heads.calibrate(planted, samples=60, heads=str(lists / "help.json"))
    assert given.heads == (HELP,) and given.tried == found.tried and given.judgement == found.judgement
    assert given.helps and "a list of 1 heads was given; on 30 held-out samples accuracy rises (" in given.verdict
    assert given.chance == "eligible pairs: 30 of 30 (head, sample) pairs of the list have a sink to calibrate (100.0%)"
    assert given.measured.source.endswith("help.json (chosen with beta=0.2)") and given.summary()["given"] == [[*HELP]]
    with pytest.raises(ValueError, match="no head was calibrated alone"):
        _ = given.alone


def test_a_given_list_that_harms_is_not_said_to_help(planted, lists):
    harm = wb.analyses.calibrate_heads.calibrate(planted, samples=40, layers=(1,), heads=str(lists / "harm.json"))
    assert not harm.helps and harm.judgement.chosen.gain < 0 and harm.judgement.n == 20
    assert "the margin is NOT shown to rise more than with 7 matched lists" in harm.verdict


def test_the_authors_layout_is_judged_too_and_its_sinks_are_said_to_be_few(planted, lists, tmp_path):
    got = wb.analyses.calibrate_heads.calibrate(
        planted, samples=40, layers=(2,), heads=str(lists / "act.json"), out=str(tmp_path)
    )
    assert got.heads == ((2, 1), (2, 4)) and got.verdict.endswith("(0.0%): not applicable")
    files = {f.name for f in (tmp_path / got.path.rpartition("/")[2]).iterdir()}
    assert {"head_list.json", "head_list_act.json", "report.html"} <= files and "heads.parquet" not in files
    page = got.report()
    assert "Each head alone" not in page and "given, so no head is selected" in page and got.unlisted is None
    assert tuple(map(tuple, read_heads(got.path + "/head_list_act.json"))) == got.heads


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"heads": [[1, 8]]}', "L1H8 is no head of planted-calibrate, which has 8 heads in layers"),
        ('{"heads": []}', "no head in it"),
        ('{"heads": [[1, 2], [1, 2]]}', "twice"),
        ("[[0], [3]]", "L3H3 is no head"),
    ],
)
def test_lists_that_do_not_fit_are_named(planted, tmp_path, text, says):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(BadInput, match=says) as error:
        wb.analyses.calibrate_heads.calibrate(planted, samples=40, heads=str(tmp_path / "list.json"))
    assert "\n" not in str(error.value)


def test_why_there_is_no_list_in_the_authors_layout_is_said(found):
    shown = Console(width=200, record=True, file=StringIO())
    shown.print(replace(found, path="runs/x"))
    why = f"no head_list_act.json: the authors' layout begins at layer 2 and has no place for L{HELP[0]}H{HELP[1]}"
    assert why in shown.export_text() and found.summary()["note"].startswith(why)
    page = found.report()
    assert "head_list.json" in page and "No head_list_act.json: the authors" in page


def test_layers_are_the_papers_as_fractions_of_the_depth(planted):
    class Deep:
        n_layers, name = 32, "deep"

        class seam:
            layers = dict.fromkeys(range(32))

    assert tried_layers(CalibrateHeads(), Deep) == tuple(range(2, 31))
    assert tried_layers(CalibrateHeads(), planted) == (0, 1, 2)
    with pytest.raises(BadInput, match=r"layers=\[3\]"):
        tried_layers(CalibrateHeads(layers=(1, 3)), planted)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "nothing"}, "task=nothing: no file and no bundled task"),
        ({"samples": 8}, "samples=8: give at least 40"),
        ({"beta": 1.0}, "beta=1.0"),
        ({"draws": 18}, "draws=18: fewer than 19"),
        ({"rule": "mine"}, "rule=mine: use corrected, paper"),
        ({"a": 0.5}, "a=0.5"),
        ({"exempt": (-1,)}, "exempt"),
        ({"layers": (9,)}, "layers="),
        ({"layers": ()}, "layers: no layer is given"),
        ({"a": 7.0, "absolute": 0.1}, "two rules"),
        ({"seed": -1}, "seed=-1: give at least 0"),
    ],
)
def test_bad_input_is_one_line(planted, options, says):
    with pytest.raises(BadInput, match=says) as error:
        wb.analyses.calibrate_heads.calibrate(planted, **{"samples": 40, **options})
    assert "\n" not in str(error.value)
