"""Chain of thought against direct answers: a planted model that must copy to reason, and those that cannot do either."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.heads import HeadScores
from workbench.reasoning import more_lost, reason
from workbench.reference_models.catalogue import PLANTED
from workbench.reference_models.recipes import grammar
from workbench.tasks import word_problems
from workbench.tasks.needle import Assembler, line_ends
from workbench.tasks.word_problems import Problem, answer_of, problems
from workbench.validation import Proof

COPIES = PLANTED["planted-copy"].roles["copy"]


@pytest.fixture(scope="module")
def model():
    return wb.load("planted-copy")


@pytest.fixture(scope="module")
def scores():
    values = np.random.default_rng(0).random((3, 8)) / 10
    for i, head in enumerate(COPIES):
        values[head] = 1.0 - i / 10
    return HeadScores(values, "planted")


@pytest.fixture(scope="module")
def copied():
    """Reasoned: a line of the context, copied up to `answer is .`; at once: the full stop, which no copy head writes."""
    out = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        words = rng.choice(grammar.NOUNS, 8, replace=False).tolist()
        prose = " ".join(grammar.prose(rng, 3))
        thought = f"{' '.join(words[:5])} answer is . {prose} {' '.join(words[:3])}"
        direct = f"{prose} {' '.join(words[5:])}"
        reasoned, at_once = ((grammar.BOS, *grammar.ids(text).tolist()) for text in (thought, direct))
        out.append(Problem(reasoned, at_once, "."))
    return out


@pytest.fixture(scope="module")
def harmed(model, scores, copied):
    proof = Proof((), (1, 3), draws=6, ends=line_ends(model.tokenizer, model.stop_tokens), batch=8)
    short = pytest.MonkeyPatch()
    short.setattr("workbench.reasoning.STEPS", {"thought": 8, "direct": 2})
    yield reason(model, scores, copied, proof)
    short.undo()


def test_only_the_reasoned_answers_are_lost_with_the_copy_heads(harmed):
    assert harmed.thought == harmed.direct == 1.0 and harmed.n == 6 and not harmed.not_scored
    one, all_three = harmed.points
    assert (one.thought, one.direct, one.more) == (1.0, 1.0, 0.0), "each copy head suffices"
    assert (all_three.thought, all_three.direct, all_three.more) == (0.0, 1.0, 1.0)
    assert (all_three.low, all_three.high) == (1.0, 1.0)
    assert max(map(abs, all_three.matched)) == 0 and all_three.p == pytest.approx(1 / 7) and one.p == 1.0


def test_what_is_said_is_what_generation_with_a_mask_says(model, copied):
    for heads, answered in (((), True), (COPIES, False)):
        said = model.generate(torch.tensor([copied[0].thought]), 8, stop=[], edits=wb.mask(heads))[0]
        assert (answer_of(model.tokenizer.decode(said), "thought") == ".") == answered


def test_a_list_that_does_not_copy_harms_neither(model, scores, copied, harmed):
    """The negative control: heads that look everywhere, instead of those that copy."""
    values = scores.values.copy()
    for head in PLANTED["planted-copy"].roles["uniform"]:
        values[head] = 2.0
    proof = Proof((), (3,), draws=0, ends=line_ends(model.tokenizer, model.stop_tokens), batch=8)
    found = reason(model, HeadScores(values, "uniform heads"), copied, proof)
    assert not found.not_scored and found.points[0].more == 0 and found.points[0].p is None


def test_difference_of_harms_by_hand():
    base = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=float)
    found = np.array([[[1, 1, 1, 0], [0, 0, 1, 0]], [[1, 1, 0, 0], [1, 0, 0, 0]]], dtype=float)
    assert more_lost(base, found) == pytest.approx([0, 2 / 3 - 1 / 2])
    weights = np.random.default_rng(0).multinomial(4, [0.25] * 4, 200).astype(float)
    for w, got in zip(weights, more_lost(base, found[:, 1], weights), strict=True):
        with np.errstate(invalid="ignore", divide="ignore"):
            lost = [1 - (w * found[i, 1]).sum() / (w * base[i]).sum() for i in range(2)]
        assert got == pytest.approx(lost[0] - lost[1], nan_ok=True)


def test_a_model_that_cannot_do_it_is_not_scored(model, scores, copied):
    assert reason(model, scores, None, Proof(())).not_scored == "the vocabulary lacks words of the problems"
    wrong = [replace(p, answer="7") for p in copied]
    proof = Proof((), (1,), ends=line_ends(model.tokenizer, model.stop_tokens))
    said = reason(model, scores, wrong, proof)
    assert said.not_scored == "0 reasoned and 0 answered at once, of 6; at least 5 of each are needed"
    assert not said.points
    assert problems(Assembler(model.tokenizer), 2, 0) is None, "words that a bundled model does not know"


class Letters:
    """A tokenizer of single characters."""

    unk_token_id = bos_token_id = chat_template = None

    def __call__(self, text, **_):
        return {"input_ids": [ord(c) for c in text]}


def test_every_problem_shows_its_way_and_is_right():
    made = problems(Assembler(Letters()), 40, seed=4)
    assert made == problems(Assembler(Letters()), 40, seed=4) != problems(Assembler(Letters()), 40, seed=5)
    for p in made or ():
        thought, direct = ("".join(map(chr, ids)) for ids in (p.thought, p.direct))
        assert thought.count("starts with") == word_problems.EXAMPLES and "starts with" not in direct
        assert direct.endswith("The answer is") and thought.endswith("Answer:")
        asked = thought.rsplit("Question: ", 1)[1]
        assert asked.split("\nAnswer")[0] == direct.rsplit("Question: ", 1)[1].split("\nAnswer")[0]
        first, more, less = (int(w) for w in asked.split() if w.isdigit())
        assert int(p.answer) == first + more - less >= 0
        shown = direct.split("\n\n")[0]
        a, b, c = (int(w) for w in shown.split("Answer")[0].split() if w.isdigit())
        assert answer_of(shown, "direct") == str(a + b - c)


@pytest.mark.parametrize(
    ("response", "way", "answer"),
    [
        (" 3 + 4 = 7. The answer is 7.", "thought", "7"),
        (" The answer is: 12, and The answer is 9.", "thought", "12"),
        (" 7", "thought", None),
        (" 7. Because", "direct", "7"),
        ("The answer is 8!", "direct", "8"),
        ("", "direct", None),
    ],
)
def test_answers_are_read(response, way, answer):
    assert answer_of(response, way) == answer
