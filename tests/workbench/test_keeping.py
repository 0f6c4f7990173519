"""Keeping heads full while all others have a window: planted heads suffice, random ones do not, and the naive way agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_models
import torch

import workbench as wb
from workbench.controls import corrected
from workbench.heads import HeadScores
from workbench.keeping import Keeping, keep, outside
from workbench.reference_models.catalogue import PLANTED
from workbench.tasks.needle import Assembler, Sample, blocks
from workbench.validation import Proof, control_lists, validate
from workbench.views.keeping_curves import keeping_curves, keeping_table

COPIES = PLANTED["planted-copy"].roles["copy"]


@pytest.fixture(scope="module")
def planted():
    """The planted model, scores that rank its copy heads first, needles, and the curve."""
    model = wb.load("planted-copy")
    units = blocks(Assembler(model.tokenizer), [112], [0.0, 30.0, 100.0], 3, 5)
    samples = [s for unit in units for s in unit.samples]
    values = np.random.default_rng(0).random((3, 8)) / 10
    for i, head in enumerate(COPIES):
        values[head] = 1.0 - i / 10
    scores = HeadScores(values, "planted")
    proof = Proof(samples, (1, 2, 3), all_layers=2, recent=36, seed=1)
    curve = keep(model, scores, proof, lambda k: 5)
    return model, scores, proof, curve


def test_the_planted_heads_alone_tell_every_needle_and_random_ones_none(planted):
    _, scores, proof, curve = planted
    assert curve.full == 1.0 and curve.none == 0.0
    assert [p.top for p in curve.points] == [1.0, 1.0, 1.0] and curve.enough_at == 1, "each copy head suffices"
    for p in curve.points:
        lists = control_lists(scores, p.k, 5, 2, proof.seed).named
        for told, drawn in ((p.matched, lists["matched"]), (p.all_layers, lists["free"])):
            assert list(told) == [float(any(h in COPIES for h in heads)) for heads in drawn], "and no other head does"
    assert [max(p.matched) for p in (curve.points[0], curve.points[2])] == [0.0, 0.0]
    assert curve.points[2].p == pytest.approx(1 / 6)


def test_only_needles_outside_the_window_are_asked_for(planted):
    _, _, proof, curve = planted
    far = outside(proof.samples, proof.sink, proof.recent)
    assert curve.n == len(far) == 6 and all(s.depth < 99 for s in far), "the needles next to the question are left out"
    for s in far:
        start, end = s.spans["answer"]
        assert start >= proof.sink and end <= len(s.tokens) - proof.recent
    near = replace(far[0], spans={**far[0].spans, "answer": (2, 4)})
    assert not outside([near], 3, 4) and outside([near], 2, 4)


def test_too_few_needles_outside_are_no_curve(planted):
    model, scores, proof, _ = planted
    assert keep(model, scores, replace(proof, recent=500), lambda k: 8) is None


def test_a_list_without_the_copy_heads_keeps_nothing(planted):
    """The negative control: the same scores, upside down."""
    model, scores, proof, _ = planted
    wrong = keep(model, HeadScores(-scores.values, "upside down"), replace(proof, ks=(3,), all_layers=0), lambda k: 4)
    assert wrong is not None and wrong.enough_at is None and [p.top for p in wrong.points] == [0.0]
    assert all(p.p == 1.0 for p in wrong.points)
    assert replace(wrong, full=0.0).enough_at is None, "nothing kept of nothing is not enough"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


def test_recall_is_what_greedy_decoding_says_with_all_others_windowed(tiny):
    scores, samples = HeadScores(np.random.default_rng(3).random((3, 8)), "random"), []
    for seed in range(6):
        prompt = torch.randint(3, 97, (1, 30 + seed), generator=torch.Generator().manual_seed(seed))
        said = tiny.generate(prompt, 3, stop=[])[0]
        spans = {"answer": (8, 11)}
        samples.append(Sample(tuple(prompt[0].tolist()), tuple(said.tolist()), spans, 0, "", "", 50.0, (0, 50)))
    proof = Proof(samples, (2, 20), all_layers=2, sink=2, recent=4)
    curve = keep(tiny, scores, proof, lambda k: 3)
    assert curve is not None and curve.full == 1.0 and curve.n == 6
    values = {0: curve.none, 2: curve.points[0].top, 20: curve.points[1].top}
    for k, told in values.items():
        rest = [h for h in scores.rank() if h not in scores.top(k).heads]
        right = 0
        for s in samples:
            with wb.intervene(tiny, wb.window(rest, 2, 4)):
                right += tuple(tiny.generate(torch.tensor([s.tokens]), 3, stop=[])[0].tolist()) == s.answer
        assert told == right / 6
    assert curve.none < 1, "the window changes an answer"


def test_a_killed_curve_goes_on_with_what_is_finished(planted):
    model, scores, proof, _ = planted
    proof, kept = replace(proof, ks=(1, 2), all_layers=0, samples=outside(proof.samples, 4, 36)[:5]), {}

    def remember(unit, work):
        if unit not in kept:
            if len(kept) == 2:
                raise KeyboardInterrupt
            kept[unit] = work()
        return kept[unit]

    with pytest.raises(KeyboardInterrupt):
        keep(model, scores, proof, lambda k: 1, remember)
    finished = dict(kept)

    def again(unit, work):
        return finished.pop(unit) if unit in finished else work()

    assert keep(model, scores, proof, lambda k: 1, again) == keep(model, scores, proof, lambda k: 1)
    assert not finished


def test_q_is_corrected_over_all_curves_together(planted):
    from scipy.stats import false_discovery_control

    model, scores, proof, curve = planted
    masked = validate(model, scores, replace(proof, ks=(1, 3), draws=4, all_layers=0, samples=proof.samples[:3]))
    both = corrected(masked, None, curve)
    assert both[1] is None and isinstance(both[2], Keeping)
    ps = [pt.p for part in (masked, curve) for pt in part.points]
    assert [pt.q for part in (both[0], both[2]) for pt in part.points] == pytest.approx(false_discovery_control(ps))


def test_the_figure_shows_the_curve_and_its_control(planted):
    curve = planted[3]
    figure = keeping_curves(curve)
    assert figure.series[0].x == [0.0, 1.0, 2.0, 3.0] and figure.series[0].y == [0.0, 1.0, 1.0, 1.0]
    assert figure.series[1].y[::3] == [0.0, 0.0] and "n = 6 samples" in figure.caption
    assert keeping_table(curve).rows[0][3] == len(curve.points[0].matched)
    assert curve.to_json()["enough_at"] == 1
