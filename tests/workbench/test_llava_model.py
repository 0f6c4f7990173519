"""The bundled llava: what it must show on scenes that it has not seen, and that edits, probes and writing reach it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from workbench import images, probes
from workbench.errors import BadInput
from workbench.probes.repeats import repeat_scores
from workbench.reference_models import catalogue
from workbench.reference_models.recipes import llava as recipe
from workbench.reference_models.recipes import scene_documents as documents
from workbench.reference_models.recipes.scene_acceptance import figures
from workbench.tasks.pope import parse
from workbench.tasks.scene_answers import PLACEHOLDER, describe, yes_margins
from workbench.tasks.scene_objects import CELLS, OBJECTS, PAIRS
from workbench.tasks.scenes import ASK, DESCRIBE, caption, scenes

FOLDER = catalogue.folder("llava")
PICTURE = (1, 1 + CELLS)
COLUMNS = tuple(range(*PICTURE))
HEADS = [(1, 2), (2, 5), (3, 0)]


@pytest.fixture(scope="module")
def model():
    return wb.load("llava")


@pytest.fixture(scope="module")
def asked(model):
    shown = scenes("score", 6)
    text = PLACEHOLDER + ASK.format("car")
    return images.prompt(model, [text] * len(shown), [s.image for s in shown])


def accepted(found: dict) -> None:
    """Adversarial and random questions are about the same scenes; random ones are also hard where habits are broken."""
    broken = found["pope"]["counterfactual"]
    assert found["pope"]["ordinary"]["random"]["accuracy"] >= 0.9
    assert broken["random"]["accuracy"] - broken["adversarial"]["accuracy"] >= 0.1
    assert found["chair"]["counterfactual"]["chair_s"] > 0.1
    assert found["partner"]["excess"] >= 0.1 and found["partner"]["ideal_false_yes"] <= 0.05


def test_it_sees_and_habit_makes_it_invent(model):
    found = figures(model, 64)
    accepted(found)
    ordinary, broken = (found["chair"][kind] for kind in ("ordinary", "counterfactual"))
    assert broken["chair_i"] > 2 * ordinary["chair_i"] and ordinary["recall"] > 0.8
    assert 0.5 < found["partner"]["auc"] < 1


@pytest.mark.slow
def test_more_scenes_of_every_set(model):
    for part in ("score", "choose", "report"):
        accepted(figures(model, 500, part))


@pytest.mark.slow
def test_another_seed_meets_the_acceptance_figures(tmp_path):
    """About a minute of one core."""
    accepted(figures(wb.load(recipe.train_all(tmp_path, seed=1)), 250))


def test_what_it_is_called_and_weighs(model):
    assert model.label == "workbench reference model (llava architecture), not the LLaVA authors' weights"
    assert type(model.bridge.original_model).__name__ == "LlavaForConditionalGeneration"
    assert (FOLDER / "model.safetensors").stat().st_size <= 4e6
    stored = json.loads((FOLDER / "training.json").read_text())
    assert stored["recipe"] == json.loads(json.dumps(recipe.asdict(recipe.PHASES[0])))


def test_its_processor_needs_no_torchvision_and_gives_units_of_the_noise(model):
    [s] = scenes("score", 1)
    made = images.prompt(model, PLACEHOLDER + DESCRIBE, s.image)
    start = [documents.BOS, *[documents.IMAGE] * CELLS]
    assert made.tokens.tolist() == [start + documents.ids(DESCRIBE)]
    expected = documents.pixel_values(s.pixels[None])
    torch.testing.assert_close(made.inputs["pixel_values"], expected, atol=1e-5, rtol=1e-5)
    assert images.positions(model, made.tokens)[0].nonzero().flatten().tolist() == list(range(*PICTURE))
    assert model.tokens("Is there a cup ?").tolist() == [[1, *documents.ids("is there a cup ?")]]
    assert model.tokens("a giraffe")[0, -1] == documents.UNK


@torch.no_grad()
def test_logits_equal_hugging_face(model, asked):
    theirs = transformers.AutoModelForImageTextToText.from_pretrained(FOLDER, dtype=torch.float32).eval()
    expected = theirs(input_ids=asked.tokens, **asked.inputs).logits
    torch.testing.assert_close(model(asked.tokens, inputs=asked.inputs), expected, atol=2e-4, rtol=1e-4)


def test_random_texts_hold_no_placeholder_of_a_picture(model):
    ids = images.text_tokens(model)
    placeholder = model.bridge.original_model.config.image_token_id
    assert placeholder not in model.tokenizer.all_special_ids and placeholder not in ids
    assert set(ids) == set(range(len(model.tokenizer))) - {placeholder, *model.tokenizer.all_special_ids}
    assert repeat_scores(model, 128).k == 31  # drawn from few words, a placeholder would be among them


def test_captions_and_answers_are_those_of_its_text(model):
    shown = scenes("score", 12)
    said = describe(model, shown)
    assert [c.image for c in said] == [s.name for s in shown]
    assert all(c.text == caption([w for w in OBJECTS if f"a {w} " in c.text]) for c in said), "objects in their order"
    rows = [(s, "car") for s in shown] + [(s, "mouse") for s in shown]
    margins = yes_margins(model, rows, batch=5)
    for (s, word), margin in list(zip(rows, margins, strict=True))[::3]:
        one = images.prompt(model, PLACEHOLDER + ASK.format(word), s.image)
        text = model.tokenizer.decode(model.generate(one.tokens, 2, inputs=one.inputs)[0], skip_special_tokens=True)
        assert parse(text).parsed and parse(text).yes == bool(margin > 0)
        logits = model(one.tokens, inputs=one.inputs)[0, -1].log_softmax(-1)
        yes, no = (logits[documents.INDEX[w]] for w in ("yes", "no"))
        torch.testing.assert_close(margin, (yes - no), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_edits_reach_it(model, asked):
    plain = model(asked.tokens, inputs=asked.inputs)
    for edit in (
        wb.mask(HEADS), wb.scale(HEADS, 2.0), wb.pai(HEADS, COLUMNS, 0.5), wb.amplify(HEADS, COLUMNS, 3.0),
        wb.suppress(HEADS, COLUMNS), wb.route(HEADS, 0.1),
    ):  # fmt: skip
        with wb.intervene(model, edit):
            changed = model(asked.tokens, inputs=asked.inputs)
        assert (changed - plain).abs().max() > 1e-3, edit
    torch.testing.assert_close(model(asked.tokens, inputs=asked.inputs), plain, atol=0, rtol=0)


@torch.no_grad()
def test_it_is_blind_without_its_picture_and_says_so_otherwise(model):
    """Captions follow the picture, and captions under an edit that hides the picture do not."""
    shown = scenes("score", 24)
    everywhere = [(layer, h) for layer in range(model.n_layers) for h in range(model.n_heads)]
    seeing = describe(model, shown)
    blind = describe(model, shown, edits=wb.bias(everywhere, COLUMNS, -1e4))
    assert len({c.text for c in seeing}) > 12 and len({c.text for c in blind}) == 1


@torch.no_grad()
def test_probes_see_the_picture(model, asked):
    found = wb.observe(model, asked.tokens, [probes.mass([PICTURE]), probes.received()], inputs=asked.inputs)
    mass = found["mass"]
    assert mass.shape[:3] == (model.n_layers, len(asked.tokens), model.n_heads)
    assert float(mass[..., -1, 0].min()) > 0 and float(mass[..., -1, 0].max()) <= 1 + 1e-5
    assert float(mass[..., -1, 0].max()) > 0.5, "some head looks at the picture before it answers"
    assert float(mass[..., 0, 0].max()) == 0, "the first token stands before the picture"


def test_documents_say_what_is_there_and_are_trained_on_what_is_said():
    b = documents.batch(np.random.default_rng(3), 40)
    words = documents.VOCABULARY
    for i in range(40):
        there = {words[j] for j in b.words[i] if j != documents.PAD}
        text = [words[j] for j in b.tokens[i]]
        said = [words[j] for j in b.targets[i] if j != documents.UNTRAINED]
        assert said[-1] == "<eos>" and bool(b.answers[i]) == bool(i % 2)
        if not b.answers[i]:
            assert " ".join(said[:-1]) == caption([w for w in OBJECTS if w in there])
            continue
        asked_for = [text[j + 3] for j in range(len(text)) if text[j : j + 3] == ["is", "there", "a"]]
        assert [w == "yes" for w in said[:-1]] == [w in there for w in asked_for]
        assert len(set(asked_for)) == len(asked_for) == documents.QUESTIONS


def test_absent_partners_are_asked_for_as_often_as_told():
    def share(asked: float) -> float:
        b, hits = documents.batch(np.random.default_rng(4), 400, asked), 0
        for words, tokens in zip(b.words[1::2], b.tokens[1::2], strict=True):
            there = {documents.VOCABULARY[j] for j in words}
            missing = {p for leader, p in PAIRS if leader in there and p not in there}
            hits += len(missing & {documents.VOCABULARY[j] for j in tokens})
        return hits / 200

    often, seldom = share(1.0), share(0.3)
    assert share(0.0) == 0 and 0.15 < seldom / often < 0.6


def test_the_command_trains_into_a_folder_that_loads(tmp_path, monkeypatch):
    small = recipe.Shape(16, 2, 2, 1, 8, 16, 16, 2, 2, 16)
    monkeypatch.setattr(recipe, "PHASES", (recipe.Recipe(shape=small, steps=2, rows=4),))
    from workbench.commands.train_reference import COMMAND, TrainReference

    done = COMMAND.run(TrainReference(model="llava", out=str(tmp_path / "mine"), seed=5))
    assert done.summary()["folder"] == str(tmp_path / "mine" / "phase-1")
    assert json.loads((tmp_path / "mine/phase-1/training.json").read_text())["recipe"]["seed"] == 5
    model = wb.load(tmp_path / "mine" / "phase-1")
    assert model.n_layers == 2 and len(describe(model, scenes("score", 2))) == 2


def test_a_training_is_decided_by_its_seed():
    small = recipe.Shape(16, 2, 2, 1, 8, 16, 16, 2, 2, 16)
    runs = [recipe.Training(replace(recipe.PHASES[0], shape=small, steps=3, rows=4, seed=s)) for s in (0, 0, 1)]
    for run in runs:
        while run.advance():
            pass
    a, b, c = (torch.cat([p.detach().flatten() for p in run.model.parameters()]) for run in runs)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_another_tokenizer_has_no_yes(tmp_path):
    import tiny_models

    other = wb.load(tiny_models.save("llava", tmp_path))
    with pytest.raises(BadInput, match="'yes' is no single token"):
        yes_margins(other, [(scenes("score", 1)[0], "car")])
