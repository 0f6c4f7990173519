"""What each visual method stands for, written out head by head as plain hooks: the truth that its edits are held to."""

from __future__ import annotations

import statistics

import numpy as np
import torch

from workbench.heads import HeadScores
from workbench.reference_models import catalogue
from workbench.visual_methods import scores

LAYERS, HEADS = 4, 8


def head_scores(seed: int = 0) -> dict[str, HeadScores]:
    rng = np.random.default_rng(seed)
    return {
        n: HeadScores(rng.normal(size=(LAYERS, HEADS)), n) for n in (scores.VHD, scores.CONTRAST, scores.IMAGE_MASS)
    }


def picture(shown, b: int) -> dict:
    return {"pixel_values": shown.inputs["pixel_values"][b : b + 1]}


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
