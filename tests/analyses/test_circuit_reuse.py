"""Reuse from end to end: on planted circuits whose true reuse is known, across checkpoints, and from the command line."""

from __future__ import annotations

import io
import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from sample_circuits import circuit_of, two_circuits
from workbench_analyses.circuit_reuse import CircuitReuse, reuse
from workbench_analyses.trace_circuit import trace

import workbench as wb
from workbench.commands.compare import OF_RUNS, Compare, run
from workbench.discovery import run_kinds
from workbench.errors import BadInput
from workbench.heads import ModelIdentity
from workbench.options import options_of
from workbench.reference_models.catalogue import BUNDLED
from workbench.reference_models.planted.ioi_circuit import build_circuit
from workbench.reference_models.planted.ioi_key import TASK_ROLES, needed, shown, true_reuse
from workbench.reference_models.planted.ioi_knobs import SHARED, Knobs

TRACED = {"samples": 16, "explore": 8, "quality": "none"}
QUICK = {"samples": 8, "controls": 19, "draws": 500, "resamples": 200, "halvings": 20}
HELD = {k: v for k, v in QUICK.items() if k not in ("samples", "controls")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders of both tasks on the bundled planted model."""
    model, out = wb.load("planted-ioi"), tmp_path_factory.mktemp("runs")
    return {task: trace(model, task=task, out=str(out), **TRACED) for task in TASK_ROLES}


def by_key(circuit, task, corruption):
    """The circuit of a planted model as its key has it: one stage, since the key tells none."""
    heads = sorted(shown(circuit.roles, task, corruption))
    stages = {(1, "resid", "END"): {"head": heads}}
    shape = circuit.knobs.layers, circuit.knobs.heads
    return circuit_of(stages, task, shape, sorted(needed(circuit.roles, task)), corruption=corruption)


@pytest.mark.parametrize("shared", [(), ("mover",), ("mover", "seeker"), SHARED], ids=len)
def test_true_reuse_is_found_on_both_columns_from_0_to_1(shared):
    circuit = build_circuit(Knobs(shared=shared, seed=3))
    a, b = by_key(circuit, "ioi", "abc"), by_key(circuit, "colored-objects", "resample")
    found = reuse(a, b, transfer=False, **HELD)
    share, jaccard = true_reuse(circuit.roles)
    one = found.columns["union"].overlap
    assert (one.share, one.jaccard) == (pytest.approx(share), pytest.approx(jaccard))
    assert found.columns["ablation"].overlap == one and share == len(shared) / 3
    visible = [shown(circuit.roles, t, c) for t, c in (("ioi", "abc"), ("colored-objects", "resample"))]
    assert set(found.columns["patching"].overlap.shared) == visible[0] & visible[1]
    assert found.shown == (found.columns["patching"].overlap.p <= 0.05) and (share > 0 or not found.shown)


def test_traces_of_the_bundled_model_share_the_mover_alone(runs):
    a, b = (runs[task] for task in ("ioi", "colored-objects"))
    found = reuse(a.path, b.path, **QUICK)
    roles = BUNDLED["planted-ioi"].roles
    union = found.columns["union"]
    assert (union.overlap.share, union.overlap.jaccard) == pytest.approx(true_reuse(roles))
    assert union.overlap.shared == roles["colour-mover"] and union.ceiling.within == (1.0, 1.0)
    assert union.intervals.share == (pytest.approx(1 / 3),) * 2
    assert union.ceiling.reuse == pytest.approx((1 / 3 - 1 / 6) / (1 - 1 / 6), abs=0.01)
    assert found.verdict.startswith("NOT shown that the circuits share more heads than chance (1 of 2 heads shared")
    assert [s.overlap.n for s in found.stages] == [1, 0, 1] and found.roles["mover", "mover"] == roles["colour-mover"]
    ioi, colours = found.transfers
    assert ioi.row("own circuit").found.share == pytest.approx(1, abs=0.02)
    assert colours.row("own circuit").found.share == pytest.approx(1, abs=0.02)
    assert abs(ioi.row("the other's circuit").found.share) < 0.02 > abs(colours.row("the other's circuit").found.share)
    assert ioi.row("own without shared").found.share == pytest.approx(1 / 3, abs=0.02), "the negative mover is left"
    assert found.verdict.count("is NOT shown to do") == 2
    again = reuse(a, b, transfer=False, **HELD)
    assert again.columns["union"] == union and again.sweep == found.sweep and again.matched == found.matched


@pytest.mark.slow
@pytest.mark.parametrize("shared", [(), ("mover",), ("seeker",), ("mover", "seeker"), SHARED], ids="-".join)
def test_traces_find_the_true_reuse_of_fresh_models(shared):
    circuit = build_circuit(Knobs(heads=16, shared=shared, decoy_norm=0.3, seed=40 + len(shared)))
    bridge = circuit.bridge()
    a, b = (trace(bridge, task=task, **TRACED) for task in TASK_ROLES)
    found = reuse(a, b, transfer=False, **HELD)
    one = found.columns["union"].overlap
    assert (one.share, one.jaccard) == pytest.approx(true_reuse(circuit.roles))
    same = {t: shown(circuit.roles, t, c.circuit.corruption) for t, c in zip(TASK_ROLES, (a, b), strict=True)}
    assert set(found.columns["patching"].overlap.shared) == same["ioi"] & same["colored-objects"]


def test_a_wholly_shared_circuit_does_the_other_task():
    circuit = build_circuit(Knobs(shared=SHARED, seed=5))
    model = wb.load(circuit.bridge())
    identity = ModelIdentity(model.name, *model.identity())
    a, b = (
        replace(by_key(circuit, task, corruption), model=identity)
        for task, corruption in (("ioi", "abc"), ("colored-objects", "resample"))
    )
    found = reuse(a, b, models=model, **QUICK)
    assert found.columns["union"].overlap.share == 1.0
    colours = found.transfers[1]
    other = colours.row("the other's circuit")
    assert other.found.share == pytest.approx(1, abs=0.05) and other.randoms.p == 1 / 20
    assert np.median(other.randoms.shares) < 0.05 and "ioi's circuit does 1.0" in found.verdict
    assert colours.row("all heads but the other's").found.share < 0.1, "what does both is needed for both"


def test_two_checkpoints_are_compared_each_in_its_own_model(runs):
    circuit = build_circuit(Knobs(layers=3, heads=8, seed=8))
    model, other = wb.load("planted-ioi"), wb.load(circuit.bridge())
    b = replace(by_key(circuit, "ioi", "s2-io"), model=ModelIdentity(other.name, *other.identity()))
    a = runs["ioi"].circuit
    found = reuse(a, b, models=(model, other), **QUICK)
    truth = needed(BUNDLED["planted-ioi"].roles, "ioi") & needed(circuit.roles, "ioi")
    assert set(found.columns["union"].overlap.shared) == truth
    assert all(t.row("own circuit").found.share == pytest.approx(1, abs=0.05) for t in found.transfers)
    assert any("different models" in note for note in found.notes)
    with pytest.raises(BadInput, match="not the model of"):
        reuse(a, b, models=model, **QUICK)


def test_what_cannot_be_compared_is_said_in_a_line(tmp_path):
    a, b = two_circuits()
    for given, said in (
        ((a, circuit_of({}, shape=(12, 12))), "no heads"),
        ((a, circuit_of({(1, "resid", "END"): {"m": [(0, 0)]}}, shape=(3, 8))), "12 × 12 and 3 × 8"),
        ((tmp_path, b), "cannot be read"),
    ):
        with pytest.raises(BadInput, match=said) as caught:
            reuse(*given, transfer=False, **HELD)
        assert "\n" not in str(caught.value)
    for options in ({"ablation": "none"}, {"draws": 3}, {"memory": "much"}, {"samples": 1}):
        with pytest.raises(BadInput):
            reuse(a, b, **options)
    tiny = circuit_of({(1, "resid", "END"): {"m": [(0, 0)]}}, shape=(3, 8))
    assert reuse(tiny, tiny, transfer=False, **HELD).verdict.startswith(
        "NOT testable: circuits of 1 and 1 heads allow no p"
    )


def test_the_report_says_the_verdict_first_and_the_terminal_the_same():
    found = reuse(*two_circuits(), transfer=False, **HELD)
    page = found.report()
    assert page.index("Circuit reuse: ioi and colored-objects") < page.index(found.verdict[1:50])
    assert "no effects prompt by prompt of ioi and colored-objects" in page and 'data-block="circuit"' in page
    said = io.StringIO()
    Console(width=300, file=said).print(found)
    said = said.getvalue()
    assert (
        "shared by patching: L5H5 L7H3 L8H6 L9H9 L10H0" in said
        and "the circuits share more heads than layer-matched random ones" in said
    )
    summary = json.loads(json.dumps(found.summary()))
    assert summary["columns"]["union"]["n"] == 6 and summary["columns"]["union"]["intervals"] is None
    assert "<img" in found._repr_html_() and len(found.plot().data) == 3


def test_compare_knows_two_circuits_from_scores(runs, tmp_path):
    a, b = (runs[task].path for task in ("ioi", "colored-objects"))
    words = ["workbench", "compare", a, b, "transfer=false", "seed=3", f"out={tmp_path / 'both'}", "json=true"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["columns"]["union"]["n"] == 1
    page = (tmp_path / "both" / "report.html").read_text()
    assert "NOT shown" in page and f"workbench compare a={a} b={b} transfer=false seed=3" in page
    assert json.loads((tmp_path / "both" / "reuse.json").read_text())["edges"]["labelled"] == 1


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (("circuit", "scores"), {}, "holds a circuit of trace-circuit, "),
        (("scores", "circuit"), {}, "holds a circuit of trace-circuit, "),
        (("circuit", "circuit"), {"k": 3}, "k= is of head scores"),
        (("scores", "scores"), {"out": "x"}, "out= is of circuits"),
        (("scores", "gone"), {}, "gone does not exist"),
        (("run", "gone"), {}, "gone does not exist"),
    ],
)
def test_compare_refuses_a_circuit_against_scores(tmp_path, given, options, said):
    two_circuits()[0].save(tmp_path / "circuit.json")
    (tmp_path / "scores.json").write_text('{"0-0": [0.5], "0-1": [0.25]}')
    paths = {"circuit": str(tmp_path / "circuit.json"), "scores": str(tmp_path / "scores.json")}
    paths |= {"run": str(tmp_path), "gone": str(tmp_path / "gone")}
    with pytest.raises(BadInput, match=said) as caught:
        run(Compare(a=paths[given[0]], b=paths[given[1]], **options))
    assert "\n" not in str(caught.value)


def test_the_comparison_is_found_by_its_package():
    (kind,) = run_kinds()
    assert kind.config is CircuitReuse and kind.compare is reuse
    own, core = (options_of(c) for c in (CircuitReuse, Compare))
    assert all(own[name].default == core[name].default for name in OF_RUNS), (
        "the command has the defaults of the function"
    )
    assert callable(wb.analyses.circuit_reuse.reuse)
