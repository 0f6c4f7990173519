"""The recipe of the gpt2 reference model: parity with transformers, what its documents ask, and the command."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.reference_models.recipes import circuit_documents as documents
from workbench.reference_models.recipes import circuit_words as words
from workbench.reference_models.recipes import gpt2, training
from workbench.reference_models.recipes.circuit_documents import COLOUR, INDIRECT, REPEATED, REVERSED, Mix
from workbench.reference_models.recipes.tiny_gpt2 import Shape, TinyGpt2, export
from workbench.reference_models.tokenizer import build_cased_tokenizer
from workbench.tasks.circuit_prompts import make_prompts

SMALL = Shape(len(words.VOCABULARY), d_model=32, layers=2, heads=4, mlp=48)
MIX = Mix(0.1, 0.1, 0.35, 0.4, (2, 3), 0.4)


def test_the_trainers_forward_equals_transformers(tmp_path):
    torch.manual_seed(0)
    model = TinyGpt2(SMALL)
    with torch.no_grad():
        for p in model.parameters():  # biases and norms away from 0 and 1; what bf16 holds
            p.copy_((p + 0.1 * torch.randn_like(p)).bfloat16())
    export(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    x = torch.randint(4, len(words.VOCABULARY), (2, 40))
    with torch.no_grad():
        h, _ = model(x, torch.arange(40).expand(2, -1))
        torch.testing.assert_close(h @ model.embed.T, theirs(x).logits, atol=1e-5, rtol=1e-5)


def drawn(make, n=200, **options):
    """Documents as words and classes."""
    rng, mix = np.random.default_rng(4), replace(MIX, **options)
    return [tuple(zip(*make(rng, mix), strict=True)) for _ in range(n)]


def answers(rows, kind):
    """What stands before each token of a class, and the token."""
    return [(text[:at], text[at]) for text, kinds in rows for at in range(len(text)) if kinds[at] == kind]


def test_the_indirect_object_is_named_once_and_the_subject_twice():
    for before, answer in answers(drawn(documents.indirect_object, asides=1.0), INDIRECT):
        count = Counter(x for x in before if x in words.NAMES)
        (subject,) = (name for name, n in count.items() if n == 2)
        assert before[-1] == "to" and count[answer] == 1
        assert not documents.unseen(words.NAMES.index(subject), words.NAMES.index(answer))


def test_a_colour_is_the_one_before_the_thing_asked_for():
    asked = answers(drawn(documents.coloured_things, asides=1.0), COLOUR)
    assert len(asked) > 200, "an example or a second question in some"
    for before, answer in asked:
        thing = next(x for x in reversed(before) if x in words.THINGS)
        (colour,) = (c for c, t in pairwise(before) if t == thing and c in words.COLOURS)
        assert before[-2:] == ("A", ":") and colour.capitalize() == answer
        assert not documents.unseen(words.THINGS.index(thing), words.COLOURS.index(colour))


def test_spans_stand_again_forwards_or_turned_round():
    rows = drawn(lambda rng, mix: documents.span_again(rng, False))
    for text, kinds in rows:
        for at in (i for i, k in enumerate(kinds) if k == REPEATED):
            assert text[text.index(text[at - 1]) + 1] == text[at]
    for text, kinds in drawn(lambda rng, mix: documents.span_again(rng, True)):
        first = text[: text.index("?")]
        parts = " ".join(text).split(" ? ")
        assert [p.split() for p in parts] == [list(first[:: (-1) ** i]) for i in range(len(parts))]
        assert kinds.count(REVERSED) == len(first) * (len(parts) - 1)


def test_nothing_stands_at_one_distance():
    _, kind = documents.batch(np.random.default_rng(4), 200, 96, MIX)
    assert len(set(np.nonzero(kind == INDIRECT)[1])) > 40 and len(set(np.nonzero(kind == COLOUR)[1])) > 40
    places = gpt2.positions(np.random.default_rng(0), torch.zeros(64, 96, dtype=torch.long), 128)
    assert places.max() <= 127 and len(set(places[:, 0].tolist())) > 10 and (places.diff(dim=1) == 1).all()


def test_the_vocabulary_holds_what_the_tasks_draw():
    from transformers import PreTrainedTokenizerFast

    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), words.VOCABULARY[:4], strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=build_cased_tokenizer(words.VOCABULARY), **special)
    assert len(words.VOCABULARY) <= 200
    left_out = make_prompts("ioi", tokenizer, 40).left_out
    assert set(left_out) == set(wb.tasks.ioi.NAMES) - set(words.NAMES)
    assert make_prompts("colored-objects", tokenizer, 8).left_out == ()


def test_the_command_trains_into_a_folder_that_loads(tmp_path, monkeypatch):
    stage = training.Stage(48, 4, 4, 2.0, MIX)
    monkeypatch.setattr(gpt2, "PHASES", (training.Recipe(SMALL, (stage,)),))
    from workbench.commands.train_reference import COMMAND, TrainReference

    done = COMMAND.run(TrainReference(model="gpt2", out=str(tmp_path / "mine"), seed=3))
    folder = tmp_path / "mine" / "phase-1"
    assert done.summary()["folder"] == str(folder)
    assert json.loads((folder / "training.json").read_text())["recipe"]["seed"] == 3
    model = wb.load(folder)
    assert model.n_layers == 2 and model.tokens("Then, Mary").shape == (1, 4)
