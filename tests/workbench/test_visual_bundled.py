"""The bundled llava tells scenes, is read, and its words are contrasted; a shuffled label gives no contrast."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from workbench import bootstrap, images, visual
from workbench.tasks.scene_answers import PLACEHOLDER
from workbench.tasks.scenes import DESCRIBE, scenes
from workbench.visual.reading import outputs


@pytest.fixture(scope="module")
def bundled():
    model = wb.load("llava")
    shown = scenes("score", 40, counterfactual=True)
    asked = images.prompt(model, [PLACEHOLDER + DESCRIBE] * len(shown), [s.image for s in shown])
    return model, shown, visual.tell(model, asked)


def said_words(model, shown, told) -> list[visual.Word]:
    return [
        w
        for i, s in enumerate(shown)
        for w in visual.spoken(model.tokenizer, told.said[i, : told.length[i]].tolist(), s.objects, row=i)
    ]


def test_the_bundled_model_tells_and_is_read(bundled):
    model, shown, told = bundled
    assert len(set(told.length.tolist())) > 3, "captions of several lengths"
    for w in said_words(model, shown, told):
        assert model.tokenizer.decode([int(told.said[w.row, w.step])]).strip() == w.object
        assert w.invented == (w.object not in shown[w.row].objects)
    seen = visual.read(model, told)
    for scores in (
        visual.image_mass(seen),
        visual.vhd(seen),
        visual.vhd(seen, against="blank"),
        visual.localisation(seen),
    ):
        assert scores.n == len(shown) and scores.scored.any()
    z = outputs(told.seen())
    assert z.name == "outputs"
    mass = visual.image_mass(seen).values
    assert mass.max() > 0.5 and mass.min() < 0.2, "heads differ in how much they look at the picture"


def test_a_shuffled_label_gives_no_contrast_in_the_bundled_model(bundled):
    model, shown, told = bundled
    said = said_words(model, shown, told)
    effects = visual.word_effects(model, told, said)
    pictures, invented = [shown[w.row].name for w in said], np.array([w.invented for w in said])
    assert invented.sum() > 10
    real, rng = visual.causal_contrast(effects, invented, pictures), np.random.default_rng(0)
    away = [float((bootstrap.settled(s.interval()[0]) > 0).sum() + (s.interval()[1] < 0).sum()) for s in (
        real, *(visual.causal_contrast(effects, rng.permutation(invented), pictures) for _ in range(10))
    )]  # fmt: skip
    assert away[0] > 2 * np.mean(away[1:]) and np.mean(away[1:]) < 0.15 * real.values.size, away
