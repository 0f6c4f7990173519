"""ROUGE-1 recall on stems, by hand."""

from __future__ import annotations

import pytest

from workbench.tasks.rouge import rouge_recall


@pytest.mark.parametrize(
    ("answer", "response", "recall"),
    [
        ("running", "she runs", 1.0),
        ("the red lamps", "a Red lamp!", 2 / 3),
        ("flies", "fly", 0.0),  # fli and fly: three letters are not stemmed
        ("ponies", "a pony", 1.0),  # poni
        ("relational databases", "the database relates", 1.0),  # relat, databas
        ("was", "wa", 0.0),  # three letters are not stemmed
        ("eat a sandwich", "eating sandwiches", 2 / 3),
        ("a b b", "b a c", 2 / 3),  # each word as often as it stands there
        ("3.14", "it is 3,14", 1.0),  # 3 and 14
        ("well-known", "it is well known", 1.0),
        ("generously", "generalization", 1.0),  # gener: Porter2 would tell them apart
        ("hopping", "he hoped", 0.0),  # hop and hope
        ("Straße 5", "in der straße", 0.5),
        ("", "anything", 0.0),
    ],
)
def test_rouge_recall_by_hand(answer: str, response: str, recall: float):
    assert rouge_recall(answer, response) == pytest.approx(recall)
