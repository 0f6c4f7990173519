"""POPE: answers as the official script reads them, figures counted by hand, and which absent objects are asked for."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from workbench.errors import BadInput
from workbench.tasks.pope import Answer, Frequencies, Question, parse, pope, questions


def official(text: str) -> str:
    """The published script's lines."""
    if text.find(".") != -1:
        text = text.split(".")[0]
    text = text.replace(",", "")
    words = text.split(" ")
    return "no" if "No" in words or "not" in words or "no" in words else "yes"


@pytest.mark.parametrize(
    ("text", "yes", "parsed"),
    [
        ("Yes, there is a dog.", True, True),
        ("No, there is no dog. Yes", False, True),
        ("yes", True, True),
        ("no", False, True),
        ("There is not a dog", False, True),
        ("A dog. No", True, False),
        ("", True, False),
        ("NO", True, False),  # the script's words are case-sensitive
        ("No\nreally", True, False),
        ("I think so", True, False),
        ("nothing", True, False),
        ("Yes. No.", True, True),
    ],
)
def test_answers_are_read_as_officially(text, yes, parsed):
    assert parse(text) == Answer(yes, parsed)
    assert yes == (official(text) == "yes")


def test_figures_by_hand():
    """3 hits of 4, 1 false yes of 2."""
    asked = [Question("1", w, p) for w, p in zip("abcdef", [True] * 4 + [False] * 2, strict=True)]
    said = [Answer(y, i != 0) for i, y in enumerate([True, True, True, False, True, False])]
    found = pope(said, asked)
    assert (found.n, found.accuracy, found.precision, found.recall, found.f1) == (6, 4 / 6, 3 / 4, 3 / 4, 3 / 4)
    assert (found.yes_ratio, found.false_yes, found.unparsed) == (4 / 6, 1 / 2, 1 / 6)
    nobody = pope([Answer(False, True)] * 2, asked[4:])
    assert math.isnan(nobody.precision) and math.isnan(nobody.recall) and nobody.accuracy == 1
    with pytest.raises(BadInput, match="1 answers to 6"):
        pope(said[:1], asked)


SHELF = [["cup", "plate"]] * 6 + [["cup", "fork"]] * 3 + [["person"]] * 20 + [["person", "fork"]] + [["spoon"]] * 2


def test_absent_objects_by_strategy():
    counts = Frequencies.of(SHELF)
    assert counts.alone["person"] == 21 and counts.together["cup"] == Counter(plate=6, fork=3)
    images = {str(i): ["cup"] for i in range(200)}
    got = {
        s: [q.object for q in questions(images, counts, s, n=1) if not q.present] for s in ("popular", "adversarial")
    }
    assert set(got["popular"]) == {"person"} and set(got["adversarial"]) == {"plate"}
    drawn = Counter(q.object for q in questions(images, counts, "random", n=1, seed=3) if not q.present)
    assert drawn.keys() == {"person", "plate", "fork", "spoon"} and min(drawn.values()) > 25
    with pytest.raises(BadInput, match="Did you mean 'popular'"):
        questions(images, counts, "populer")


def test_questions_are_balanced_true_and_not_repeated():
    counts = Frequencies.of(SHELF)
    images = {"a": ["cup", "fork", "person"], "b": ["spoon"], "c": []}
    for strategy in ("random", "popular", "adversarial"):
        asked = questions(images, counts, strategy)
        assert all((q.object in images[q.image]) == q.present for q in asked)
        assert len(asked) == 2 * sum(q.present for q in asked)
        assert len({(q.image, q.object) for q in asked}) == len(asked)
        assert [q for q in asked if q.image == "b"][1].present is False
        assert len([q for q in asked if q.image == "a"]) == 4  # two others exist
    # nothing goes with a spoon: any absent object, as in the official script
    many = {str(i): ["spoon"] for i in range(60)}
    assert len({q.object for q in questions(many, counts, "adversarial", n=1)}) > 3
