"""Heads pointed elsewhere: against patterns rewritten by hand, and where the effect is known by construction."""

from __future__ import annotations

import json
from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console
from workbench_analyses.circuits.repairing import Aim, answers_of, fitting
from workbench_analyses.repair_heads import COMMAND, heads_of, repair

import workbench as wb
from workbench.budget import FewerRows
from workbench.errors import BadInput, TooLarge
from workbench.options import parse
from workbench.reference_models.planted.ioi_circuit import ROLES, build_circuit
from workbench.reference_models.planted.ioi_knobs import Knobs
from workbench.tasks.circuit_prompts import make_prompts

MOVER, GATHERER = (2, 0), (1, 1)
WRONG = ("wrong-object", "other-object")


@pytest.fixture(scope="module")
def planted():
    return wb.load("planted-ioi")


@pytest.fixture(scope="module")
def lost():
    """A planted circuit whose gatherer looks at nothing: the mover does not know which object is asked for."""
    circuit = build_circuit(Knobs(), {r: h for r, h in ROLES.items() if r not in ("decoy", "idle")})
    layer, head = GATHERER
    projection, width = circuit.model.transformer.h[layer].attn.c_attn, circuit.model.config.n_embd
    size = width // circuit.model.config.n_head
    with torch.no_grad():
        projection.weight[:, head * size : (head + 1) * size] = 0
        projection.bias[head * size : (head + 1) * size] = 0
    return wb.load(circuit.bridge())


@pytest.fixture(scope="module")
def mended(lost, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("runs"))
    return repair(lost, heads=[MOVER], onto=("object",), samples=24, force=True, batch=10, out=out)


def by_hand(model, prompt, heads, columns):
    """One prompt, unpadded, with rows of the pattern rewritten on the plain bridge: likeliest token and difference."""

    def hook(pattern, hook):
        pattern = pattern.clone()
        for layer, head in heads:
            if f".{layer}." in hook.name:
                pattern[0, head, -1] = 0
                pattern[0, head, -1, list(columns)] = 1 / len(columns)
        return pattern

    hooks = [(f"blocks.{layer}.attn.hook_pattern", hook) for layer in {layer for layer, _ in heads}]
    logits = model.bridge.run_with_hooks(torch.tensor([prompt.clean]), fwd_hooks=hooks)[0][-1]
    return int(logits.argmax()), float(logits[prompt.answers[0]] - logits[prompt.answers[1]])


def test_answers_are_those_of_patterns_rewritten_by_hand(planted):
    prompts = make_prompts("ioi", planted.tokenizer, 9, 4).prompts
    assert len({len(p.clean) for p in prompts}) > 1  # rows are padded
    rng = np.random.default_rng(0)
    heads = ((1, 0), (1, 3), MOVER)
    columns = [sorted(rng.choice(len(p.clean), 2 + i % 2, replace=False).tolist()) for i, p in enumerate(prompts)]
    found = answers_of(planted, prompts, range(2, 9), [None, Aim(heads, columns)])
    for at, i in enumerate(range(2, 9)):
        said, difference = by_hand(planted, prompts[i], heads, columns[i])
        assert found["said"][1, at] == said and found["difference"][1, at] == pytest.approx(difference, abs=2e-3)
        assert found["said"][0, at] == prompts[i].answers[0]
    assert np.abs(found["difference"][1] - found["difference"][0]).max() > 1


def test_the_mover_at_the_right_object_mends_a_model_that_lost_its_gatherer(mended):
    assert mended.base.accuracy < 0.5 and mended.repaired.accuracy == 1.0 and mended.repaired.spoiled == 0
    assert mended.repaired.mended == round(24 * (1 - mended.base.accuracy)) and mended.repaired.p < 1e-3
    assert max(a.accuracy for a in (*mended.random_tokens, *mended.random_heads)) < 0.5
    assert len(mended.random_tokens) == 19 and mended.p_against(mended.random_tokens) == pytest.approx(1 / 20)
    assert mended.enumerated and len(mended.random_heads) == 7  # all other heads of the layer
    assert mended.p_against(mended.random_heads) == pytest.approx(1 / 8) and mended.mends
    assert "(an oracle), L2H0 at object: accuracy rises" in mended.verdict
    assert "more than with both controls" in mended.verdict and "NOT" not in mended.verdict


def test_fewer_prompts_at_a_time_where_memory_runs_out_or_is_bounded(planted, narrow, monkeypatch):
    prompts = make_prompts("ioi", planted.tokenizer, 9, 4).prompts
    aims, which = [None, Aim((MOVER,), [[i % 3] for i in range(9)])], range(1, 9)
    whole = answers_of(planted, prompts, which, aims)

    def asked(most: int) -> None:
        went = narrow(planted, 4)
        found = fitting(planted, prompts, which, aims)
        assert max(went) == most and (found["said"] == whole["said"]).all()
        np.testing.assert_allclose(found["difference"], whole["difference"], rtol=1e-4, atol=1e-4)

    with pytest.warns(FewerRows, match="repair: memory ran out on cpu with 8 rows at a time; going on with 4 at most"):
        asked(4)
    monkeypatch.setattr(planted, "memory", "2kB")
    with pytest.raises(TooLarge, match="repair: .* for one row, more than 2kB: raise memory= to") as caught:
        asked(1)
    monkeypatch.setattr(planted, "memory", str(caught.value).split("raise memory= to ")[1].split(",")[0])
    asked(1)


@pytest.mark.parametrize(
    ("head", "onto", "accuracy"),
    [(MOVER, ("object",), 1.0), (MOVER, WRONG, 0.0), (GATHERER, ("question",), 1.0), (GATHERER, WRONG[:1], 0.0)],
)
def test_on_the_planted_circuit_each_edit_does_what_the_wiring_says(head, onto, accuracy, planted):
    found = repair(planted, heads=[head], onto=onto, samples=16)
    assert found.base.accuracy == 1.0 and found.repaired.accuracy == accuracy and not found.mends
    assert all(a.accuracy == 1.0 for a in found.random_heads)  # decoys may look where they like
    assert max(a.accuracy for a in found.random_tokens) <= 0.5
    word = "falls" if accuracy == 0 else "is NOT shown to change"
    assert f"accuracy {word}" in found.verdict


def test_by_default_heads_look_at_the_colours_that_are_wrong(planted):
    found = repair(planted, heads="2.0", samples=16)
    assert found.config.labels == ("wrong-colour", "other-colour") and found.repaired.accuracy < 0.5
    prompts = make_prompts("colored-objects", planted.tokenizer, 16, 0).prompts
    columns = [[p.spans[x][0] for x in found.config.labels] for p in prompts]
    by_pattern = [by_hand(planted, p, [MOVER], c)[0] == p.answers[0] for p, c in zip(prompts, columns, strict=True)]
    assert found.repaired.accuracy == np.mean(by_pattern)


def test_a_repair_is_shown_saved_and_resumed(mended, lost, monkeypatch):
    text = StringIO()
    Console(file=text, width=160).print(mended)
    assert "L2H0 (oracle)" in text.getvalue() and "random heads, all (7)" in text.getvalue()
    with open(f"{mended.path}/report.html") as file:
        page = file.read()
    assert "an oracle" in page and "repair-heads" in page and "McNemar" in page
    with open(f"{mended.path}/run.json") as file:
        record = json.load(file)
    assert record["state"] == "done" and record["summary"]["oracle"] is True and record["summary"]["mends"] is True
    assert [r["arm"] for r in mended.rows()].count("random tokens") == 19
    monkeypatch.setattr("workbench_analyses.circuits.repairing.answers_of", None)  # nothing is computed again
    again = repair(
        lost, heads="L2H0", onto=("object",), samples=24, force=True, batch=10, out=mended.path.rsplit("/", 1)[0]
    )
    assert again.path == mended.path and again.rows() == mended.rows()


def test_the_command_line_says_the_same(mended):
    config = parse(COMMAND, ["heads=12.3,13.4", "onto=colour", "samples=50"]).config
    assert heads_of(config.heads) == ((12, 3), (13, 4)) and config.labels == ("colour",)
    assert "heads=2.0" in mended.command and "onto=object" in mended.command and "batch" not in mended.command


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": "2-0"}, "heads=2-0: write layer.head"),
        ({"heads": ()}, "heads=none"),
        ({"heads": "2.0,2.0"}, "each head once"),
        ({"heads": "7.0"}, "head 7.0"),
        ({}, "heads= is missing"),
        ({"heads": "2.0", "task": "ioi"}, "say with onto="),
        ({"heads": "2.0", "onto": ("wrong-color",)}, "Did you mean 'wrong-colour'"),
        ({"heads": "2.0", "draws": 5}, "draws=5"),
        ({"heads": "2.0", "samples": 3}, "samples=3"),
        ({"heads": "2.0", "task": "colors"}, "no circuit task"),
    ],
)
def test_bad_input_is_one_line(options, said, planted):
    with pytest.raises(BadInput, match=said) as caught:
        repair(planted, **options)
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_do_the_task_is_refused(lost):
    with pytest.raises(BadInput, match="nothing to mend; force=true goes on"):
        repair(lost, heads="2.0", samples=16)
