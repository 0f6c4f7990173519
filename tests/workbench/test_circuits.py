"""Circuit files: what is written is what is read, and a file that is none is named."""

from __future__ import annotations

import json

import pytest

from workbench.circuits import Circuit, CircuitEdge, CircuitHead, Edge, Stage, read_circuit
from workbench.errors import BadInput
from workbench.heads import ModelIdentity


def circuit(**changes):
    """A small circuit: two movers, one head that tells them where to look, one that only ablation shows."""
    stages = (Stage(1, "resid", "END", (), 1.0), Stage(2, "q", "END", ((2, 0), (2, 1)), 0.9))
    heads = (
        CircuitHead((2, 0), "1 logits@END", 0.7, 0.6, 0.8, "mover", {"attends IO": 0.9, "copies": 1.0}),
        CircuitHead((2, 1), "1 logits@END", -0.2, -0.3, -0.1, "negative mover", {"attends IO": 0.8}),
        CircuitHead((1, 3), "2 q@END", 0.5, 0.4, 0.6),
    )
    edges = (
        CircuitEdge(Edge((2, 0), None, "resid", "END"), 0.7, 0.6, 0.8),
        CircuitEdge(Edge((1, 3), (2, 0), "q", "END"), 0.5, 0.4, 0.6),
    )
    fields = {
        "model": ModelIdentity("m", "c", "w"), "n_layers": 3, "n_heads": 4, "task": "ioi", "corruption": "s2-io",
        "n": 8, "clean": 4.0, "corrupted": -3.5, "accuracy": 0.99, "stages": stages, "heads": heads, "edges": edges,
        "needed": ((0, 2), (2, 0)), "ranking": (((2, 0), 0.7), ((1, 3), 0.39), ((2, 1), 0.2)),
        "settings": {"tau": 0.02},
    }  # fmt: skip
    return Circuit(**{**fields, **changes})


def test_a_circuit_comes_back_from_its_file_and_its_run_folder(tmp_path):
    one = circuit()
    one.save(tmp_path / "circuit.json")
    assert read_circuit(tmp_path / "circuit.json") == one == read_circuit(tmp_path)


def test_what_a_circuit_says_of_its_heads():
    one = circuit()
    assert one.gap == -7.5
    assert one.carrying == ((1, 3), (2, 0), (2, 1)) and one.nodes == ((0, 2), (1, 3), (2, 0), (2, 1))
    assert [h.head for h in one.in_stage("1 logits@END")] == [(2, 0), (2, 1)]
    assert one.roles()[1, 3] == ("effect without role",)
    ranks = one.ranks()
    assert ranks.shape == (3, 4) and ranks[2, 0] == 0.7 and ranks.sum() == pytest.approx(1.29)
    assert one.csv().splitlines()[1] == "2,0,1 logits@END,mover,0.7,0.6,0.8"


@pytest.mark.parametrize("spoil", ["{", "[]", "{}", '{"format": "workbench-circuit-9"}', "gone", "edge", "form"])
def test_a_file_that_is_no_circuit_is_named_in_a_line(tmp_path, spoil):
    file, held = tmp_path / "circuit.json", json.loads(circuit().json())
    if spoil == "edge":
        held["edges"][0]["edge"] = [1]
        spoil = json.dumps(held)
    if spoil == "form":
        spoil = json.dumps(held | {"format": "other"})
    if spoil != "gone":
        file.write_text(spoil)
    with pytest.raises(BadInput, match=r"circuit\.json: ") as caught:
        read_circuit(file)
    assert "\n" not in str(caught.value)
