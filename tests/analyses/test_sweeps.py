"""Which labels are swept in a prompt: where the corruption is felt, every column once."""

from __future__ import annotations

from workbench_analyses.circuits.sweeps import reaches

from workbench.tasks.circuit_prompts import CircuitPrompt


def test_a_column_is_swept_once_and_under_end_where_the_first_stage_begins():
    spans = {"one": (1, 2), "same": (1, 2), "two": (2, 3), "last": (3, 5), "END": (4, 5)}
    prompt = CircuitPrompt((0, 1, 2, 3, 4), (0, 1, 9, 3, 8), (5, 6), spans, "t", "t")
    assert [label for label in spans if reaches(prompt, label)] == ["two", "END"]
    earlier = CircuitPrompt((0, 1, 2, 3, 4), (0, 7, 2, 3, 4), (5, 6), spans, "t", "t")
    assert [label for label in spans if reaches(earlier, label)] == ["one", "two", "END"]
    assert not reaches(earlier, "three")
