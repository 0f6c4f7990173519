"""Faithful, complete, minimal: on a toy whose every number is known, and on planted circuits."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from workbench_analyses.circuits.ablated import Ablated
from workbench_analyses.circuits.completeness import completeness, greedy_set
from workbench_analyses.circuits.curves import RANDOM, areas, performance_curves, sizes_of
from workbench_analyses.circuits.faithfulness import faithfulness, random_circuits
from workbench_analyses.circuits.minimality import minimality
from workbench_analyses.circuits.quality import circuit_quality
from workbench_analyses.circuits.rankings import in_order, orders_of, rankings

import workbench as wb
from workbench.errors import BadInput
from workbench.jsonable import dumps
from workbench.patching import head_sets, kept_differences
from workbench.reference_models.catalogue import BUNDLED
from workbench.reference_models.planted.ioi_circuit import build_circuit
from workbench.reference_models.planted.ioi_key import needed
from workbench.reference_models.planted.ioi_knobs import Knobs
from workbench.tasks.circuit_prompts import circuit_rows, make_prompts

A, B, TWIN, IDLE = (0, 0), (1, 1), (2, 0), (1, 2)
WORTH = {A: 2.0, B: 1.0}


class Toy(Ablated):
    """Heads add up, but for TWIN, which says 2 more only where A is gone. Prompt i counts 1 + i / 10."""

    def __call__(self, lists):
        each = 1 + np.arange(8) / 10
        value = [
            sum(WORTH.get(h, 0.0) for h in set(heads)) + (2.0 if TWIN in heads and A not in heads else 0.0)
            for heads in lists
        ]
        return np.array(value)[:, None] * each - 1.0


@pytest.fixture
def toy():
    model = SimpleNamespace(n_layers=3, n_heads=4, dtype=torch.float32)
    each = 1 + np.arange(8) / 10
    return Toy(model, [None] * 8, "zero", None, 0, 3 * each - 1, np.full(8, -1.0))  # type: ignore[arg-type]


def test_faithfulness_of_a_toy_is_the_share_of_what_its_heads_are_worth(toy):
    one = faithfulness(toy, [A, IDLE])
    assert one.share == pytest.approx(2 / 3) and one.quartiles == pytest.approx((2 / 3,) * 3)
    assert one.low == pytest.approx(2 / 3) == one.high  # every prompt agrees
    assert (one.whole, one.nothing, one.alone) == pytest.approx((3 * 1.35 - 1, -1, 2 * 1.35 - 1))
    toy.nothing = toy.nothing + np.array([0.5, 0, 0, 0, 0, 0, 0, 0.9])
    wide = faithfulness(toy, [A])
    top, bottom = (toy([[A]])[0] - toy.nothing), toy.whole - toy.nothing
    assert wide.share == pytest.approx(top.sum() / bottom.sum()) and wide.low < wide.share < wide.high
    assert wide.quartiles[0] == pytest.approx(np.quantile(top / bottom, 0.25))
    toy.nothing[3] = toy.whole[3]
    assert faithfulness(toy, [A]).undefined == 1


def test_a_twin_that_steps_in_is_seen_by_completeness_and_by_minimality_of_the_group(toy):
    found = {r.name: r for r in completeness(toy, [A, B], {"movers": (A,), "others": (B, IDLE)}, seed=1)}
    assert found["nothing"].share == pytest.approx(0) == pytest.approx(found["others"].share)
    movers = found["movers"]
    assert movers.removed == (A,) and found["others"].removed == (B,)  # IDLE is not of the circuit
    assert movers.difference == pytest.approx(-2 * 1.35) and movers.share == pytest.approx(2 / 3)
    assert movers.low < movers.difference < movers.high < 0
    assert A in found["worst found"].removed and found["worst found"].share == pytest.approx(2 / 3)
    assert greedy_set(list(found.values())) == found["worst found"].removed
    heads = [A, B, TWIN, IDLE]
    alone = {n.head: n for n in minimality(toy, heads, {})}
    assert alone[TWIN].change == pytest.approx(0) and not alone[TWIN].minimal and not alone[IDLE].minimal
    assert alone[B].change == pytest.approx(1.35 / (3 * 1.35 - 1)) and alone[B].removed == ()
    grouped = {n.head: n for n in minimality(toy, heads, {"movers": (A, TWIN)})}
    assert grouped[TWIN].change == pytest.approx(2 * 1.35 / (3 * 1.35 - 1))
    assert (grouped[TWIN].by, grouped[TWIN].removed) == ("movers", (A,)) and not grouped[IDLE].minimal
    searched = {n.head: n for n in minimality(toy, heads, {}, greedy=(A,))}
    assert searched[TWIN].by == "greedy" and searched[TWIN].minimal


def test_areas_are_those_of_trapezoids_and_every_size_is_measured(toy):
    assert sizes_of(144) == tuple(range(145))
    assert sizes_of(384) == (0, 1, 2, 4, 8, 19, 38, 77, 192, 384)
    cpr, cmd = areas(np.array([0.0, 1.5, 1.0]), (0, 1, 4))
    assert (float(cpr), float(cmd)) == pytest.approx((0.75 / 4 + 3 * 1.25 / 4, 0.75 / 4 + 0.75 / 4))
    order = [B, A, *(h for h in toy.heads if h not in (A, B))]
    best, chance = performance_curves(toy, {"mine": order}, randoms=20)
    assert best.f[:4] == pytest.approx((0, 1 / 3, 1, 1)) and best.sizes == tuple(range(13))
    assert best.cpr == pytest.approx((1 / 6 + 2 / 3 + 10) / 12) and best.cmd == pytest.approx((5 / 6 + 1 / 3) / 12)
    assert (chance.method, chance.draws) == (RANDOM, 20)
    assert chance.cpr_interval[0] < chance.cpr < chance.cpr_interval[1] < best.cpr
    toy.whole = toy.whole + 1
    with pytest.raises(AssertionError, match=r"f\(1\)"):
        performance_curves(toy, {"mine": order})


def test_orders_break_ties_by_place_and_ignore_the_last_bits():
    scores = np.array([[0.5, -2.0], [0.5 + 1e-15, 0.0]])
    assert in_order(scores) == ((0, 1), (0, 0), (1, 0), (1, 1))


@pytest.fixture(scope="module")
def planted():
    model = wb.load("planted-ioi")
    prompts = make_prompts("ioi", model.tokenizer, 10, 1, corruption="abc").prompts
    roles = BUNDLED["planted-ioi"].roles
    return model, prompts, tuple(sorted(needed(roles, "ioi"))), roles


@pytest.fixture(scope="module")
def whole(planted):
    model, prompts, *_ = planted
    return Ablated.of(model, prompts)


@pytest.mark.parametrize("how", ["resample", "mean", "zero"])
def test_the_planted_circuit_does_the_task_alone(how, planted):
    model, prompts, key, _ = planted
    reference = make_prompts("ioi", model.tokenizer, 180, 2, corruption="abc").prompts
    ablated = Ablated.of(model, prompts, how, reference)
    one = faithfulness(ablated, key)
    assert one.share == pytest.approx(1, abs=0.02) and one.low <= one.share <= one.high
    assert one.low <= 1.005 and one.high >= 0.995
    found = kept_differences(model, prompts, head_sets(model, [key, ()]), how, ablated.means).double().numpy()
    rows = circuit_rows(prompts)
    logits = model(rows.clean, rows.mask)[:, -1].gather(1, rows.answers).double().numpy()
    clean = logits[:, 0] - logits[:, 1]
    by_hand = (found[0] - found[1]).mean() / (clean - found[1]).mean()
    assert one.share == pytest.approx(by_hand, abs=1e-6)
    for gone in key:
        assert faithfulness(ablated, [h for h in key if h != gone]).share < 0.7
    randoms = random_circuits(ablated, key, 19)
    assert max(map(abs, randoms.shares)) < 0.02 and randoms.p == pytest.approx(1 / 20) and len(randoms.shares) == 19


def test_every_planted_head_is_needed_and_a_decoy_is_not(whole, planted):
    _, _, key, roles = planted
    decoy = roles["decoy"][0]
    quality = circuit_quality(whole, [*key, decoy], {"movers": (*roles["name-mover"], decoy)}, controls=19)
    assert quality.idle == (decoy,)
    assert {n.head: n.change for n in quality.minimality}[2, 0] == pytest.approx(2 / 3, abs=0.02)
    assert quality.incomplete.share < 0.01  # no backup: the model does what the circuit does, whatever is gone
    again = json.loads(dumps(dataclasses.asdict(quality)))
    assert again["faithfulness"]["share"] == quality.faithfulness.share
    with pytest.raises(BadInput, match="no heads"):
        circuit_quality(whole, [], {})


def test_a_backup_head_makes_the_circuit_incomplete():
    shares = {}
    for backup in (True, False):
        circuit = build_circuit(Knobs(layers=4, backup=backup, seed=4))
        model, mover = wb.load(circuit.bridge()), circuit.roles["name-mover"]
        ablated = Ablated.of(model, make_prompts("ioi", model.tokenizer, 10, 1, corruption="abc").prompts)
        key = tuple(sorted(needed(circuit.roles, "ioi")))
        assert faithfulness(ablated, key).share == pytest.approx(1, abs=0.02)  # faithful all the same
        removals = completeness(ablated, key, {"movers": mover}, randoms=0, steps=2)
        shares[backup] = {r.name: r.share for r in removals}
        if backup:
            (spare,) = circuit.roles["backup-mover"]
            worst = removals[-1]
            assert set(mover) <= set(worst.removed) and worst.difference < -5
            needs = {n.head: n for n in minimality(ablated, [*key, spare], {"movers": (*mover, spare)})}
            assert needs[spare].minimal and needs[spare].by == "movers"
            assert not {n.head: n for n in minimality(ablated, [*key, spare], {})}[spare].minimal
    assert shares[True]["movers"] > 0.5 > 0.02 > max(shares[False].values()) and shares[True]["nothing"] < 0.02


def test_methods_are_compared_on_one_axis(whole, planted):
    model, prompts, key, _ = planted
    scores = rankings(model, prompts, None, prompts, batch=4)
    assert list(scores) == ["activation patching", "EAP", "EAP-IG", "ablation"]
    once = rankings(model, prompts)
    np.testing.assert_allclose(scores["EAP-IG"], once["EAP-IG"], atol=1e-4)
    assert list(in_order(scores["activation patching"])[:4]) != list(key)  # by size
    assert set(in_order(scores["activation patching"])[:4]) == set(key)
    orders = {**orders_of(scores), "key": (*key, *(h for h in whole.heads if h not in key))}
    curves = {c.method: c for c in performance_curves(whole, orders, randoms=3)}
    exact, key_curve = curves["activation patching"], curves["key"]
    assert exact.f[4] == pytest.approx(1, abs=0.02) == pytest.approx(key_curve.f[4], abs=0.02)
    assert exact.f[0] == pytest.approx(0, abs=1e-5) and exact.f[-1] == pytest.approx(1, abs=1e-5)
    assert exact.cpr_interval[0] <= exact.cpr <= exact.cpr_interval[1] and exact.cpr > 0.85 > curves[RANDOM].cpr + 0.2
    assert curves["EAP"].cpr <= exact.cpr + 0.01 and exact.cmd == pytest.approx(1 - exact.cpr, abs=0.02)
    assert all(a < b for a, b in pairwise(exact.sizes)) and len(exact.sizes) == 25


def test_what_cannot_be_measured_is_said_in_a_line(planted):
    model, prompts, *_ = planted
    with pytest.raises(BadInput, match="5 or more reference prompts"):
        Ablated.of(model, prompts, "mean")
    same = [dataclasses.replace(p, corrupted=p.clean) for p in prompts]
    with pytest.raises(BadInput, match="no circuit"):
        Ablated.of(model, same)
