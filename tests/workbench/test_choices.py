"""Multiple choice: what is asked, what is refused, and scores against one plain forward per choice."""

from __future__ import annotations

import json

import pytest
import torch

import workbench as wb
from workbench.choosing import choice_rows, choose, log_probs, margins
from workbench.errors import BadInput
from workbench.reference_models.recipes import grammar
from workbench.tasks.assembling import Assembler
from workbench.tasks.choices import TASKS, ChoiceSample, choice_samples


@pytest.fixture(scope="module")
def model():
    return wb.load("llama")


@pytest.fixture(scope="module")
def assembler(model):
    return Assembler(model.tokenizer)


def mixed(assembler):
    """Choices of one to four tokens, two to four of them, prompts of several lengths."""
    rows = [
        ("the old lamp was", ["painted by emma", "sold", "red and green and blue"], 1),
        ("graham remember : question", [":", "answer"], 0),
        ("alice carried a coat near the river . bob was", ["in", "on", "at", "near"], 3),
    ]
    return [
        ChoiceSample(
            str(i), (*assembler.head, *assembler.piece(p)), tuple(tuple(assembler.piece(c)) for c in cs), tuple(cs), a
        )
        for i, (p, cs, a) in enumerate(rows)
    ]


def by_hand(model, sample):
    """Log-probability of each choice, one unpadded forward a choice."""
    out = []
    for choice in sample.choices:
        logits = model(torch.tensor([[*sample.prompt, *choice]]))[0].double().log_softmax(-1)
        n = len(sample.prompt)
        out.append(sum(float(logits[n - 1 + i, token]) for i, token in enumerate(choice)))
    return out


@pytest.mark.parametrize("per_token", [False, True])
def test_scores_are_those_of_a_forward_per_choice(model, assembler, per_token):
    samples = mixed(assembler)
    rows = choice_rows(samples, width=40)
    assert rows.tokens.shape == (3 + 2 - 1 + 1, 40)  # a row for each choice of three, one each for the others
    found = log_probs(model.forward(rows.tokens, rows.mask, keep=rows.kept).logits, rows, per_token)
    for i, sample in enumerate(samples):
        wanted = by_hand(model, sample)
        if per_token:
            wanted = [x / len(c) for x, c in zip(wanted, sample.choices, strict=True)]
        assert found[i, : len(wanted)].tolist() == pytest.approx(wanted, abs=1e-4)
        assert torch.isinf(found[i, len(wanted) :]).all()
        others = [x for j, x in enumerate(wanted) if j != sample.answer]
        assert float(margins(found, rows.answers)[i]) == pytest.approx(wanted[sample.answer] - max(others), abs=2e-4)
    assert torch.allclose(choose(model, samples, per_token=per_token), margins(found, rows.answers), atol=1e-4)


def test_the_phase_begins_at_each_prompts_last_token(model, assembler):
    rows = choice_rows(mixed(assembler))
    for row, start in enumerate(rows.decode_from):
        sample = mixed(assembler)[int(rows.owner[row])]
        assert int(rows.tokens[row, start]) == sample.prompt[-1]


def test_llama_answers_needle_choices_and_does_not_know_yes_from_no(model, assembler):
    right = choose(model, choice_samples("needle-choice", assembler, 40, 0)) > 0
    guessed = choose(model, choice_samples("yes-no", assembler, 40, 0)) > 0
    assert float(right.float().mean()) >= 0.95
    assert 0.25 <= float(guessed.float().mean()) <= 0.75  # it was never taught; six standard errors would be wider


@pytest.mark.parametrize("task", TASKS)
def test_bundled_tasks_are_balanced_and_repeat(assembler, task):
    samples = choice_samples(task, assembler, 200, 3)
    assert samples == choice_samples(task, assembler, 200, 3) != choice_samples(task, assembler, 200, 4)
    n = len(samples[0].choices)
    for i in range(n):
        assert sum(s.answer == i for s in samples) == pytest.approx(200 / n, abs=40)
    assert all(len(c) == 1 for s in samples for c in s.choices)
    words = [grammar.VOCABULARY[t] for t in samples[0].prompt]
    assert words[0] == "<bos>" and words[-2:] == ["answer", ":"]


def test_the_right_code_is_the_one_stated_of_the_name(assembler):
    for sample in choice_samples("needle-choice", assembler, 30, 5):
        words = " ".join(grammar.VOCABULARY[t] for t in sample.prompt)
        name = words.split("what is the secret code of ")[1].split()[0]
        assert f"the secret code of {name} is : {sample.texts[sample.answer]} ." in words


def test_a_file_of_the_users_own(tmp_path, assembler):
    path = tmp_path / "mine.jsonl"
    lines = [{"prompt": "the old lamp", "choices": ["was", "is"], "answer": a} for a in ("is", 0)]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    samples = choice_samples(str(path), assembler, None, 0)
    assert [s.name for s in samples] == ["mine.jsonl:1", "mine.jsonl:2"] and [s.answer for s in samples] == [1, 0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "mine.jsonl:2: not an object"),
        ('{"prompt": 3, "choices": ["a", "b"], "answer": 0}', "mine.jsonl:2: not an object"),
        ('{"prompt": "x", "choices": ["a"], "answer": 0}', "mine.jsonl:2: give at least two choices"),
        ('{"prompt": "x", "choices": ["a", "a"], "answer": 0}', "mine.jsonl:2: give at least two choices"),
        ('{"prompt": "x", "choices": ["in", "on"], "answer": 2}', "mine.jsonl:2: answer 2 is none"),
        ('{"prompt": "x", "choices": ["in", "on"], "answer": true}', "mine.jsonl:2: answer True is none"),
        ('{"prompt": "x", "choices": ["in", "on"], "answer": "at"}', "mine.jsonl:2: answer 'at' is none"),
        ('{"prompt": "x", "choices": ["in", ""], "answer": 0}', "mine.jsonl:2: choice '' has no token"),
    ],
)
def test_a_broken_line_is_named(tmp_path, assembler, line, says):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "x", "choices": ["in", "on"], "answer": 1}\n' + line)
    with pytest.raises(BadInput, match=says):
        choice_samples(str(path), assembler, None, 0)


def test_choices_with_one_first_token_are_told_apart_by_the_whole_or_refused(tmp_path, model, assembler):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "x", "choices": ["red coat", "red hat"], "answer": 1}')
    (whole,) = choice_samples(str(path), assembler, None, 0)
    assert torch.isfinite(choose(model, [whole])).all()
    with pytest.raises(BadInput, match=r"'red coat' and 'red hat' begin with the same token: use score=full"):
        choice_samples(str(path), assembler, None, 0, score="first")


def test_unknown_tasks_are_named(assembler, tmp_path):
    with pytest.raises(BadInput, match="Did you mean 'needle-choice'"):
        choice_samples("needle-choise", assembler, 4, 0)
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="nothing in it"):
        choice_samples(str(tmp_path / "none.jsonl"), assembler, 4, 0)
