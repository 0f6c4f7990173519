"""What the shipped gpt2 does on prompts that it was not trained on, wherever they stand, and by which heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.patching import path_effects
from workbench.reference_models.recipes import circuit_documents as documents
from workbench.reference_models.recipes import circuit_words as words
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows, make_prompts

LEAST = {"ioi": 0.98, "colored-objects": 0.98, "induction": 0.9}


@pytest.fixture(scope="module")
def gpt2():
    return wb.load("gpt2")


def accuracy(model, rows):
    """Share of rows whose answer is the most likely word of the vocabulary."""
    last = rows.clean.shape[1] - 1
    logits = model.forward(rows.clean, rows.mask, keep=slice(last, last + 1)).logits[:, -1]
    return float((logits.argmax(-1) == rows.answers[:, 0]).float().mean())


@pytest.mark.parametrize("task", LEAST)
def test_it_does_its_tasks(gpt2, task):
    assert accuracy(gpt2, make_prompts(task, gpt2.tokenizer, 256, seed=2611).rows()) >= LEAST[task]


def kept_out(model, task):
    """Prompts whose pair, subject and indirect object or thing and colour, no training document asked for."""
    first, second, left, right = {
        "ioi": ("S1", "IO", words.NAMES, words.NAMES),
        "colored-objects": ("object", "colour", words.THINGS, words.COLOURS),
    }[task]

    def unseen(p: CircuitPrompt):
        one, two = (model.tokenizer.convert_ids_to_tokens(p.clean[p.spans[label][0]]) for label in (first, second))
        return documents.unseen(left.index(one), right.index(two))

    return [p for p in make_prompts(task, model.tokenizer, 512, seed=7).prompts if unseen(p)]


@pytest.mark.parametrize("task", ["ioi", "colored-objects"])
def test_it_answers_pairs_that_were_never_asked_for(gpt2, task):
    prompts = kept_out(gpt2, task)
    assert len(prompts) > 60 and accuracy(gpt2, circuit_rows(prompts)) >= 0.95


def moved(prompts, most, seed):
    """The prompts behind 1 to `most` words of prose, which ends anywhere."""
    rng = np.random.default_rng(seed)
    prose = documents.batch(rng, len(prompts), most + 8, documents.Mix(0, 0, 0, 0))[0][:, 1 : most + 1]

    def behind(p: CircuitPrompt, ids):
        spans = {label: (a + len(ids), b + len(ids)) for label, (a, b) in p.spans.items()}
        clean, corrupted = ((x[0], *ids, *x[1:]) for x in (p.clean, p.corrupted))
        return replace(p, clean=clean, corrupted=corrupted, spans=spans)

    return circuit_rows(
        [behind(p, x[: rng.integers(1, most + 1)].tolist()) for p, x in zip(prompts, prose, strict=True)]
    )


@pytest.mark.parametrize("task", ["ioi", "colored-objects"])
def test_it_does_not_go_by_position(gpt2, task):
    rows = moved(make_prompts(task, gpt2.tokenizer, 128, seed=3).prompts, 24, 5)
    assert rows.mask is not None and len(set(rows.mask.sum(1).tolist())) > 16
    assert accuracy(gpt2, rows) >= 0.95


def patterns(model, rows):
    """[layers, batch, heads, queries, keys]"""
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(model.n_layers)]
    mask = {} if rows.mask is None else {"attention_mask": rows.mask.long()}
    _, cache = model.bridge.run_with_cache(rows.clean, names_filter=names, **mask)
    return torch.stack([cache[name] for name in names])


def looks(model, rows, query, key):
    """Mean attention [layers, heads] from one label's token to another's."""
    b = torch.arange(len(rows.clean))
    return patterns(model, rows)[:, b, :, rows.at(query), rows.at(key)].mean(0)


@pytest.fixture(scope="module")
def rows(gpt2):
    """Prompts of both tasks, half of them behind prose."""
    out = {}
    for task in ("ioi", "colored-objects"):
        prompts = make_prompts(task, gpt2.tokenizer, 64, seed=9).prompts
        out[task] = prompts[:32], prompts[32:]
    return {task: (circuit_rows(near), moved(far, 24, 1)) for task, (near, far) in out.items()}


LOOKS = [
    ("ioi", "S2", "S1", [(0, 5)], 0.25),  # duplicate token
    ("ioi", "END", "S2", [(2, 0), (2, 6)], 0.9),  # what they find there they take off its logit
    ("ioi", "END", "IO", [(3, 5), (3, 6), (3, 7)], 0.5),  # name movers
    ("colored-objects", "question", "object", [(0, 5)], 0.3),
    ("colored-objects", "END", "question", [(0, 3)], 0.8),  # content gatherer
    ("colored-objects", "END", "object", [(3, 3)], 0.9),  # mover; the colour stands before the object
]


@pytest.mark.parametrize(("task", "query", "key", "heads", "least"), LOOKS)
def test_heads_look_where_their_roles_say_also_behind_prose(gpt2, rows, task, query, key, heads, least):
    for some in rows[task]:
        mean = looks(gpt2, some, query, key)
        assert min(float(mean[head]) for head in heads) >= least


def shares(model, rows, receivers, label="END"):
    """Effects [layers, heads] of single heads, as shares of what the whole corruption changes."""
    x = path_effects(
        model, rows.clean, rows.corrupted, rows.answers, receivers, rows.at(label) - rows.clean.shape[1],
        attention_mask=rows.mask,
    )  # fmt: skip
    ends = [model.forward(ids, rows.mask).logits[:, -1].gather(1, rows.answers) for ids in (rows.clean, rows.corrupted)]
    clean, corrupted = (float((e[:, 0] - e[:, 1]).mean()) for e in ends)
    return x.mean(0) / (corrupted - clean)


def test_ioi_goes_through_a_duplicate_head_to_heads_at_the_second_subject(gpt2, rows):
    near, _ = rows["ioi"]
    direct = shares(gpt2, near, "logits")
    assert direct[2, 0] + direct[2, 6] >= 0.35 and direct[3, 5] + direct[3, 6] + direct[3, 7] >= 0.08
    told = shares(gpt2, near, [("v", 2, h) for h in range(8)], "S2")
    assert told.argmax() == 5 and told[0, 5] >= 0.25
    asked = shares(gpt2, near, [("q", 3, h) for h in range(8)])
    assert asked[2, 0] >= 0.04 and asked[2, 6] >= 0.02, "and through the movers' queries, less"


def test_colours_go_through_a_gatherer_to_movers(gpt2, rows):
    near, _ = rows["colored-objects"]
    direct = shares(gpt2, near, "logits")
    assert direct.argmax() == 3 * 8 + 3 and direct[3].sum() >= 0.8
    asked = shares(gpt2, near, [("q", 3, h) for h in range(8)])
    assert asked.argmax() == 3 and asked[0, 3] >= 0.3


def masked(model, rows, heads):
    with wb.intervene(model, wb.mask(heads)):
        return accuracy(model, rows)


def test_both_tasks_need_the_movers_of_the_last_layer(gpt2, rows):
    for near, _ in rows.values():
        assert masked(gpt2, near, [(3, h) for h in range(1, 6)]) <= 0.5
        assert masked(gpt2, near, [(1, h) for h in range(5)]) >= 0.95


def test_it_is_called_what_it_is(gpt2):
    assert "workbench reference model (gpt2 architecture), not OpenAI's weights" in repr(gpt2)
    assert gpt2.config.model_type == "gpt2" and gpt2.n_heads == 8
    assert gpt2.tokenizer.convert_ids_to_tokens(range(gpt2.config.vocab_size)) == list(words.VOCABULARY)
