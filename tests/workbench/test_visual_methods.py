"""Interventions against invention on the bundled llava: edits against plain hooks, selections against naive loops."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import visual_methods
from workbench.errors import BadInput, Unsupported
from workbench.heads import HeadScores
from workbench.interventions import Intervention
from workbench.reference_models import catalogue
from workbench.tasks.object_words import object_words
from workbench.tasks.scenes import scenes
from workbench.tasks.wording import asking, describing
from workbench.visual_methods import VisualMethod, discover, method_edits, named, scores, two_strength
from workbench.visual_methods import sinks_to_evidence as var
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.pictures import Pictures
from workbench.visual_methods.saying import Said, captions, said_surely
from workbench.visual_methods.trivial import biases, ended, lengths, truncated, without_unsure

METHODS = discover()
LAYERS, HEADS, MORE = 4, 8, 5


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


def head_scores(seed: int = 0) -> dict[str, HeadScores]:
    rng = np.random.default_rng(seed)
    return {
        n: HeadScores(rng.normal(size=(LAYERS, HEADS)), n) for n in (scores.VHD, scores.CONTRAST, scores.IMAGE_MASS)
    }


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 3e-5) -> None:
    """float32: of max|logit|."""
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def naive(model, shown, text, points: dict) -> torch.Tensor:
    """Logits of the plain bridge with hooks by name."""
    return model.bridge.run_with_hooks(text, fwd_hooks=list(points.items()), **shown.inputs)


def picture(shown, b: int) -> dict:
    return {"pixel_values": shown.inputs["pixel_values"][b : b + 1]}


# one function a method: the hooks that it stands for, written out head by head


def hooks_amplify(model, shown, strength, alphas=None):
    def hook(s, hook):
        s, layer = s.clone(), hook.layer()
        for b, columns in enumerate(shown.parts):
            for h in range(HEADS):
                a = strength * (1.0 if alphas is None else alphas[layer, h])
                for q in range(shown.tokens.shape[1] - 1, s.shape[2]):
                    part = s[b, h, q, list(columns)]
                    s[b, h, q, list(columns)] = part + a * part.abs()
        return s

    return {f"blocks.{i}.attn.hook_attn_scores": hook for i in range(LAYERS)}


def ranks(values: np.ndarray) -> np.ndarray:
    """1 for the lowest of all, divided by the mean rank."""
    flat = values.ravel()
    return np.array([1 + sum(x < y for x in flat) for y in flat]).reshape(values.shape) / ((len(flat) + 1) / 2)


def hooks_by_divergence(model, shown, strength):
    return hooks_amplify(model, shown, strength, ranks(head_scores()[scores.VHD].values))


def hooks_by_contrast(model, shown, strength):
    return hooks_amplify(model, shown, strength, ranks(-head_scores()[scores.CONTRAST].values))


def hooks_suppress(model, shown, strength):
    values = head_scores()[scores.CONTRAST].values
    order = sorted(((values[i, h], i, h) for i in range(LAYERS) for h in range(HEADS)), reverse=True)
    chosen = [(i, h) for v, i, h in order if v > 0][: int(strength)]

    def hook(p, hook):
        p, start = p.clone(), max(shown.parts[0]) + 1
        for layer, h in chosen:
            for b in range(len(p) if layer == hook.layer() else 0):
                for q in range(shown.tokens.shape[1] - 1, p.shape[2]):
                    if p[b, h, q, start:].sum() > 0.4:
                        p[b, h, q, start:] = 0
        return p

    return {f"blocks.{i}.attn.hook_pattern": hook for i in range(LAYERS)}


def hooks_route(model, shown, strength):
    values = head_scores()[scores.IMAGE_MASS].values

    def hook(z, hook):
        z = z.clone()
        worst = int(np.argmin(values[hook.layer()]))
        z[:, shown.tokens.shape[1] - 1 :, worst] *= 1 - strength
        return z

    return {f"blocks.{i}.attn.hook_z": hook for i in range(LAYERS)}


def reinforced(model, shown, strength) -> list[dict[int, set[int]]]:
    """VHR's heads, picture by picture and layer by layer, a forward for each."""
    out = []
    for b in range(len(shown)):
        x = shown.tokens[b : b + 1]
        _, blind = model.bridge.run_with_cache(x[:, ~shown.inside[b]])
        chosen: dict[int, set[int]] = {}
        for layer in (1, 2, 3):
            found = {}

            def scale(z, hook, chosen=chosen, found=found):
                for h in chosen.get(hook.layer(), ()):
                    z[:, -1, h] *= strength
                found[hook.layer()] = z[0, -1].clone()
                return z

            points = [(f"blocks.{i}.attn.hook_z", scale) for i in range(LAYERS)]
            model.bridge.run_with_hooks(x, fwd_hooks=points, **picture(shown, b))
            without = blind[f"blocks.{layer}.attn.hook_z"][0, -1]
            vhd = [float((found[layer][h] - without[h]).norm()) for h in range(HEADS)]
            size = [float((without[h] ** 2).sum()) for h in range(HEADS)]
            far = [
                v > statistics.mean(vhd) + statistics.pstdev(vhd)
                and s > statistics.mean(size) + statistics.pstdev(size)
                for v, s in zip(vhd, size, strict=True)
            ]
            vhd = [0.0 if f else v for f, v in zip(far, vhd, strict=True)]
            chosen[layer] = {h for h in range(HEADS) if vhd[h] > statistics.median(vhd)}
        out.append(chosen)
    return out


def hooks_reinforce(model, shown, strength):
    chosen = reinforced(model, shown, strength)

    def hook(z, hook):
        z = z.clone()
        for b, layers in enumerate(chosen):
            for h in layers.get(hook.layer(), ()):
                z[b, shown.tokens.shape[1] - 1 :, h] *= strength
        return z

    return {f"blocks.{i}.attn.hook_z": hook for i in range(LAYERS)}


def class_rows(model, shown) -> list[torch.Tensor]:
    """Attention of the class token from Hugging Face's own eager tower, [b, parts] a layer."""
    from transformers import AutoModelForImageTextToText

    hf = AutoModelForImageTextToText.from_pretrained(
        catalogue.folder("llava"), dtype=torch.float32, attn_implementation="eager"
    )
    out = hf.model.vision_tower(shown.inputs["pixel_values"], output_attentions=True)
    return [a.mean(1)[:, 0, 1:] for a in out.attentions]


def hooks_two_strength(model, shown, strength):
    rows, marks = class_rows(model, shown), []
    for b, columns in enumerate(shown.parts):
        near, far = rows[0][b].tolist(), rows[2][b].tolist()
        local = sorted(range(16), key=lambda i: -near[i])[:4]
        low, high = np.percentile(far, 25), np.percentile(far, 75)
        outliers = [i for i in range(16) if far[i] > high + 1.5 * (high - low) and i not in local]
        marks.append({**{columns[i]: strength for i in local}, **{columns[i]: strength * 4 / 7 for i in outliers}})

    def hook(s, hook):
        s = s.clone()
        for b, marked in enumerate(marks):
            for column, a in marked.items():
                for q in range(shown.tokens.shape[1] - 1, s.shape[2]):
                    s[b, :, q, column] += a * s[b, :, q, column].abs()
        return s

    return {f"blocks.{i}.attn.hook_attn_scores": hook for i in range(LAYERS)}


def evidence(model, shown, strength) -> list[dict[tuple[int, int], tuple[list[int], list[int]]]]:
    """VAR's heads with their sinks and receivers, picture by picture and layer by layer."""
    out = []
    for b, columns in enumerate(shown.parts):
        found: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
        for layer in range(LAYERS):

            def hook(p, hook, found=found):
                p = p.clone()
                for h in range(HEADS):
                    if (hook.layer(), h) in found:
                        p[0, h, -1] = moved(p[0, h, -1], *found[hook.layer(), h], strength)
                return p

            points = [(f"blocks.{i}.attn.hook_pattern", hook) for i in range(layer)]
            with model.bridge.hooks(fwd_hooks=points):
                _, cache = model.bridge.run_with_cache(shown.tokens[b : b + 1], **picture(shown, b))
            x, p = cache[f"blocks.{layer}.hook_resid_pre"][0], cache[f"blocks.{layer}.attn.hook_pattern"][0, :, -1]
            phi = {c: max(abs(float(x[c, d])) for d in (5, 40)) / float((x[c] ** 2).mean().sqrt()) for c in columns}
            sinks = [c for c in columns if phi[c] >= 1.6]
            rest = [c for c in columns if c not in sinks]
            for h in range(HEADS):
                all_, on = float(p[h, list(columns)].sum()), float(p[h, sinks].sum())
                if sinks and rest and all_ >= 0.2 and on / all_ <= 0.5:
                    found[layer, h] = (sinks, rest)
        out.append(found)
    return out


def moved(row, sinks, rest, strength):
    new, freed = row.clone(), strength * float(row[sinks].sum())
    new[sinks] = row[sinks] * (1 - strength)
    new[rest] = row[rest] + freed * row[rest] / row[rest].sum()
    return new


def hooks_sinks_to_evidence(model, shown, strength):
    found = evidence(model, shown, strength)
    assert any(found) and not all(len(f) == LAYERS * HEADS for f in found), "some heads, not all"

    def hook(p, hook):
        p = p.clone()
        for b, heads in enumerate(found):
            for (layer, h), (sinks, rest) in heads.items():
                for q in range(shown.tokens.shape[1] - 1, p.shape[2] if layer == hook.layer() else 0):
                    p[b, h, q] = moved(p[b, h, q], sinks, rest, strength)
        return p

    return {f"blocks.{i}.attn.hook_pattern": hook for i in range(LAYERS)}


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_a_method_equals_its_hooks(model, shown, text, name, var_with_sinks):
    method = METHODS[name]
    strength = method.strengths[len(method.strengths) // 2]
    edits = method_edits(method, shown, head_scores(), strength)
    start = [shown.tokens.shape[1] - 1]
    ours = model.forward(text, inputs=shown.inputs, edits=edits, decode_from=start).logits
    plain = model.forward(text, inputs=shown.inputs).logits
    close(ours, naive(model, shown, text, globals()[f"hooks_{name.replace('-', '_')}"](model, shown, strength)))
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


@torch.no_grad()
def test_captions_and_how_sure_they_are(model, shown):
    said = said_surely(model, shown, 40)
    assert [s.text for s in said] == captions(model, shown, 40)
    for b, one in enumerate(said):
        ids = [*shown.tokens[b].tolist(), *model.tokenizer(one.text, add_special_tokens=False)["input_ids"]]
        logits = model.bridge(torch.tensor([ids]), return_type="logits", **picture(shown, b))[0].log_softmax(-1)
        start = shown.tokens.shape[1]
        expected = [float(logits[i - 1, ids[i]]) for i in range(start, len(ids))]
        assert len(one.log_p) == len(one.ends) == len(expected) and one.ends[-1] == len(one.text)
        assert np.allclose(one.log_p, expected, atol=1e-3)
        mention = object_words().mentions(one.text)[0]
        word = one.text[: mention.start].split()
        assert one.log_probability(mention.start, mention.end) == pytest.approx(expected[len(word)], abs=1e-3)


@torch.no_grad()
def test_a_sooner_end_is_that_of_decoding(model, shown):
    """By a hook on the logits, which generates anew."""
    said, stop = said_surely(model, shown, 40), model.stop_tokens
    grid = biases(said)
    assert len(grid) > 6 and sorted(grid) == list(grid)
    for bias in (0.0, *grid, 1e4):

        def hook(logits, hook, bias=bias):
            logits = logits.clone()
            logits[..., stop] += bias * (1 + 1e-6)  # what was overtaken exactly stays said
            return logits

        with model.bridge.hooks(fwd_hooks=[("unembed.hook_out", hook)]):
            expected = captions(model, shown, 40)
        assert [ended(s, bias * (1 + 1e-6)) for s in said] == expected
    assert expected == [""] * len(shown) and len({ended(said[0], b) for b in grid}) > 2


def test_trivial_means_by_hand():
    log_p = tuple(math.log(p) for p in (1, 0.9, 1, 1, 0.5, 0.4))
    said = Said("a cup and a tv set", (1, 5, 9, 11, 14, 18), log_p, (9, 9, 4, 9, 2, 9))
    assert ended(said, 2) == said.text and ended(said, 3) == "a cup and a" and ended(said, 5) == "a cup"
    assert ended(said, 10) == "" and biases([said]) == (2, 4, 9)
    assert said.log_probability(2, 5) == pytest.approx(math.log(0.9))
    words = object_words()
    assert [m.object for m in words.mentions(said.text)] == ["cup", "tv"]
    assert without_unsure(said, 0.2, words) == said.text
    assert [m.object for m in words.mentions(without_unsure(said, 0.6, words))] == ["cup"]
    assert [m.object for m in words.mentions(without_unsure(said, 0.95, words))] == []
    assert truncated("a cup and a tv", 2) == "a cup" and truncated("a cup", 9) == "a cup"
    assert lengths(["a b c d", "a"]) == (3, 2, 1)
    assert len(lengths(["a " * 400])) <= 40


def test_a_text_of_questions(model):
    """Prompts of one length, each with its own text."""
    shown = [s.image for s in scenes("score", 2)]
    asked = Pictures(model, shown, [asking(model, "cup"), asking(model, "tv")])
    assert asked.behind == tuple(range(17, asked.tokens.shape[1])) and len(set(asked.parts)) == 1
    assert asked.without.shape == (2, asked.tokens.shape[1] - 16)
    assert isinstance(named("amplify"), VisualMethod)
