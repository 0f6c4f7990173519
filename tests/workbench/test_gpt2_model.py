"""What the shipped gpt2 can do on prompts that it was not trained on, and by which heads."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.tasks.circuit_prompts import make_prompts

LEAST = {"ioi": 0.98, "colored-objects": 0.98, "induction": 0.9}


@pytest.fixture(scope="module")
def gpt2():
    return wb.load("gpt2")


def right(model, rows):
    """Which rows the model answers, over the whole vocabulary."""
    last = rows.clean.shape[1] - 1
    logits = model.forward(rows.clean, rows.mask, keep=slice(last, last + 1)).logits[:, -1]
    return logits.argmax(-1) == rows.answers[:, 0]


@pytest.mark.parametrize("task", LEAST)
def test_it_does_its_tasks(gpt2, task):
    rows = make_prompts(task, gpt2.tokenizer, 256, seed=2611).rows()
    assert right(gpt2, rows).float().mean() >= LEAST[task]


def test_it_is_called_what_it_is(gpt2):
    assert "workbench reference model (gpt2 architecture), not OpenAI's weights" in repr(gpt2)
    assert gpt2.config.model_type == "gpt2" and gpt2.n_heads == 8
