"""Interventions against invention on the bundled llava: edits against plain hooks, selections against naive loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import visual_hooks
from visual_hooks import HEADS, LAYERS, class_rows, head_scores

import workbench as wb
from workbench import visual_methods
from workbench.errors import BadInput, Unsupported
from workbench.interventions import Intervention
from workbench.tasks.scenes import scenes
from workbench.tasks.wording import asking, describing
from workbench.visual_methods import VisualMethod, discover, method_edits, named, scores, two_strength
from workbench.visual_methods import sinks_to_evidence as var
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.pictures import Pictures

METHODS = discover()
MORE = 5


@pytest.fixture(scope="module")
def model():
    return wb.load("llava")


@pytest.fixture(scope="module")
def shown(model):
    return Pictures(model, [s.image for s in scenes("score", 4, seed=3, counterfactual=True)], describing(model))


@pytest.fixture(scope="module")
def text(model, shown):
    """The prompts and some words behind them, as if they had been said."""
    said = torch.randint(5, 36, (len(shown), MORE), generator=torch.Generator().manual_seed(2))
    return torch.cat([shown.tokens, said], 1)


@pytest.fixture
def var_with_sinks(monkeypatch, model, shown):
    """The bundled model has no visual sinks: some dimension and threshold that give it some."""
    monkeypatch.setattr(var, "sink_dimensions", lambda *_: [5, 40])
    monkeypatch.setattr(var, "default_tau", lambda _: 1.6)


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 3e-5) -> None:
    """float32: of max|logit|."""
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def naive(model, shown, text, points: dict) -> torch.Tensor:
    """Logits of the plain bridge with hooks by name."""
    return model.bridge.run_with_hooks(text, fwd_hooks=list(points.items()), **shown.inputs)


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_a_method_equals_its_hooks(model, shown, text, name, var_with_sinks):
    method = METHODS[name]
    strength = method.strengths[len(method.strengths) // 2]
    edits = method_edits(method, shown, head_scores(), strength)
    start = [shown.tokens.shape[1] - 1]
    ours = model.forward(text, inputs=shown.inputs, edits=edits, decode_from=start).logits
    plain = model.forward(text, inputs=shown.inputs).logits
    points = getattr(visual_hooks, f"hooks_{name.replace('-', '_')}")(model, shown, strength)
    close(ours, naive(model, shown, text, points))
    changed = (ours - plain).abs().amax((0, 2)) > 1e-4 * plain.abs().max()
    assert changed[start[0] :].any() and not changed[: start[0]].any(), "from the row of the first new token on"


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_the_neutral_strength_is_the_identity(model, shown, text, name, var_with_sinks):
    method = METHODS[name]
    assert method_edits(method, shown, head_scores(), method.neutral) is None
    layers = method.layers(LAYERS)
    edits = method.edits(Asked(shown, head_scores(), method.neutral, layers))  # the rule itself, not the short cut
    ours = model.forward(text, inputs=shown.inputs, edits=edits, decode_from=[shown.tokens.shape[1] - 1]).logits
    close(ours, model.forward(text, inputs=shown.inputs).logits, 2e-6)


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_says_of_itself(name):
    method = METHODS[name]
    grid, away = method.strengths, [abs(s - method.neutral) for s in method.strengths]
    assert len(grid) >= 6 and away == sorted(away) and away[0] > 0 and len(set(grid)) == len(grid)
    assert method.help and method.source and (method.beside in METHODS or not method.beside)
    assert method.layers(32) and set(method.layers(32)) <= set(range(32))


def test_fractions_of_depth_are_the_published_layers():
    assert named("reinforce").layers(32) == (1, *range(18, 32))
    assert named("amplify").layers(32) == named("two-strength").layers(32) == tuple(range(2, 32))
    assert named("reinforce").layers(4) == (1, 2, 3)


@pytest.mark.parametrize("control", visual_methods.CONTROLS)
@torch.no_grad()
def test_random_heads_are_as_many(model, shown, control, var_with_sinks):
    def count(edits) -> list[list[tuple[int, int]]]:
        rows = edits if isinstance(edits, list) else [edits]
        return [[at for e in (r.edits if isinstance(r, Intervention) else [r]) for at in e.heads] for r in rows]

    for name, method in METHODS.items():
        if not method.heads:
            with pytest.raises(BadInput, match="chooses no heads"):
                method_edits(method, shown, head_scores(), method.strengths[0], control)
            continue
        strength = method.strengths[2]
        own = count(method_edits(method, shown, head_scores(), strength))
        made = [method_edits(method, shown, head_scores(), strength, control, seed) for seed in (0, 0, 1)]
        drawn = [count(edits) for edits in made]
        assert made[0] == made[1] != made[2] and made[0] != method_edits(method, shown, head_scores(), strength), name
        for a, b in zip(own, drawn[0], strict=True):
            assert len(a) == len(set(b)) == len(b), name
            if control == "layers":
                assert sorted(i for i, _ in a) == sorted(i for i, _ in b), name
    if control == "anywhere":  # not the layers' control drawn again
        kept = count(method_edits(METHODS["route"], shown, head_scores(), 0.4, control, 3))[0]
        assert len({sum(layer == i for layer, _ in kept) for i in range(LAYERS)}) > 1


def test_random_heads_of_var_stand_where_there_are_sinks(shown):
    some, none = (torch.zeros_like(shown.inside) for _ in range(2))
    some[:, shown.parts[0][0]] = True
    three, no = (torch.arange(HEADS).lt(n).repeat(len(shown), 1) for n in (3, 0))
    by_layer = {0: var.Found(some, three), 1: var.Found(none, no), 2: var.Found(some, no)}
    seen = torch.zeros(3, HEADS)
    for seed in range(20):
        for control in visual_methods.CONTROLS:
            out = var.drawn(by_layer, Asked(shown, {}, 0.4, (0, 1, 2), control, seed))
            heads = torch.stack([out[i].heads for i in range(3)], 1)
            assert (heads.sum((1, 2)) == 3).all() and not heads[:, 1].any()
            assert control == "anywhere" or not heads[:, 2].any(), "as many of the same layer"
            seen += heads.sum(0)
    assert (seen[0] > 0).all() and (seen[2] > 0).all()


@torch.no_grad()
def test_sinks_that_are_given_go_before_the_default(model, shown, var_with_sinks, monkeypatch):
    group = [s.image for s in scenes("score", 4, seed=3, counterfactual=True)]
    default = method_edits(named("sinks-to-evidence"), shown, {}, 0.4)
    monkeypatch.setattr(var, "default_tau", lambda _: 1 / 0)
    same, other = (
        method_edits(named("sinks-to-evidence"), Pictures(model, group, describing(model), (tau, [5, 40])), {}, 0.4)
        for tau in (1.6, 1.2)
    )
    assert same == default != other


def test_a_contrast_without_a_direction_chooses_no_heads(shown):
    for name in ("suppress", "by-contrast"):
        given = replace(head_scores()[scores.CONTRAST], parameters={"measure": "absolute"})
        with pytest.raises(Unsupported, match="contrast=absolute says how much"):
            method_edits(named(name), shown, {scores.CONTRAST: given}, 2)
        log = {scores.CONTRAST: replace(given, parameters={"measure": "log"})}
        assert method_edits(named(name), shown, log, 2) == method_edits(named(name), shown, head_scores(), 2)


def test_scores_and_names_that_are_missing(model, shown):
    with pytest.raises(BadInput, match="suppress needs the head scores causal_contrast; given: vhd"):
        method_edits(named("suppress"), shown, {"vhd": head_scores()["vhd"]}, 2)
    with pytest.raises(BadInput, match="Did you mean 'amplify'"):
        named("amplfy")
    with pytest.raises(BadInput, match="number of <image> tokens"):
        Pictures(model, [scenes("score", 1)[0].image], "describe the image :")


@torch.no_grad()
def test_what_a_model_cannot_be_asked(model, shown, monkeypatch):
    with pytest.raises(Unsupported, match="no part of a picture is a sink"):
        method_edits(named("sinks-to-evidence"), shown, {}, 0.4)
    monkeypatch.setattr(two_strength, "vision_layers", lambda _: 2)
    with pytest.raises(Unsupported, match="has 2 layers; the first and the second-to-last must be two"):
        method_edits(named("two-strength"), shown, {}, 0.4)


@torch.no_grad()
def test_the_vision_towers_rows(model, shown):
    for ours, theirs in zip(shown.class_attention, class_rows(model, shown), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_ranks_of_scores():
    values = np.array([[3.0, -1.0, np.nan], [3.0, 10.0, 0.0]])
    share = scores.shares(values)
    assert np.isnan(share[0, 2]) and share[~np.isnan(share)].mean() == pytest.approx(1)
    assert share[0, 0] == share[1, 0] and share[1, 1] > share[0, 0] > share[1, 2] > share[0, 1] > 0
    assert scores.best(values, 3) == ((1, 1), (0, 0), (1, 0)) and scores.best(values, 9, above=0) == (
        (1, 1),
        (0, 0),
        (1, 0),
    )
    assert scores.best_of_layers(values, 1) == ((0, 0), (1, 1))


def test_a_text_of_questions(model):
    """Prompts of one length, each with its own text."""
    shown = [s.image for s in scenes("score", 2)]
    asked = Pictures(model, shown, [asking(model, "cup"), asking(model, "tv")])
    assert asked.behind == tuple(range(17, asked.tokens.shape[1])) and len(set(asked.parts)) == 1
    assert asked.without.shape == (2, asked.tokens.shape[1] - 16)
    assert isinstance(named("amplify"), VisualMethod)
