"""Estimates from gradients against exact effects on planted circuits: right while attention is soft, then wrong."""

from __future__ import annotations

import pytest
from workbench_analyses.circuits.saturation import EXACT, saturation, saturation_curves

from workbench.errors import BadInput

EARLY, SEEKER, MOVER, NEGATIVE = (0, 0), (1, 0), (2, 0), (2, 1)
GATHERER = (1, 1)


@pytest.fixture(scope="module")
def shares():
    rows = saturation((4.0, 6.0, 40.0), n=8)
    return rows, {(r.beta, r.task, r.head, r.method): r.share for r in rows}


@pytest.mark.slow
def test_eap_loses_heads_whose_readers_are_saturated(shares):
    _, found = shares
    for head in (EARLY, SEEKER):
        by_beta = {beta: found[beta, "ioi", head, "EAP"] / found[beta, "ioi", head, EXACT] for beta in (4.0, 6.0, 40.0)}
        assert by_beta[4.0] == pytest.approx(1, abs=0.05) and 0.3 < by_beta[6.0] < 0.6 and abs(by_beta[40.0]) < 0.02
        assert found[40.0, "ioi", head, EXACT] == pytest.approx(1, abs=0.02)
        assert found[40.0, "ioi", head, "EAP-IG m=5"] < 0.1  # a few steps do not find the jump
    assert abs(found[40.0, "colored-objects", GATHERER, "EAP"]) < 0.02
    assert found[40.0, "colored-objects", GATHERER, "EAP-IG m=30"] == pytest.approx(1, abs=0.1)
    assert found[40.0, "colored-objects", GATHERER, EXACT] == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_heads_that_write_to_the_logits_are_right_by_every_method(shares):
    rows, found = shares
    for beta in (6.0, 40.0):
        for head in (MOVER, NEGATIVE):
            exact = found[beta, "ioi", head, EXACT]
            for method in {r.method for r in rows}:
                assert found[beta, "ioi", head, method] == pytest.approx(exact, abs=0.02)
    assert found[40.0, "ioi", MOVER, EXACT] == pytest.approx(2 / 3, abs=0.02)
    assert all(r.gap < 0 for r in rows)


@pytest.mark.slow
def test_the_figure_shows_the_same_numbers(shares):
    rows, found = shares
    figure = saturation_curves(rows, "ioi", EARLY)
    assert [s.name for s in figure.series] == [EXACT, "EAP", "EAP-IG m=5", "EAP-IG m=30"]
    assert list(figure.series[1].y) == [found[beta, "ioi", EARLY, "EAP"] for beta in (4.0, 6.0, 40.0)]
    assert "exact 100%" in figure.finding and "plotly" in figure.html()
    with pytest.raises(BadInput, match=r"no row of head 0\.7"):
        saturation_curves(rows, "ioi", (0, 7))
