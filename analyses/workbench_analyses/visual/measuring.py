"""Scores of heads on the score set, unit by unit: one caption each, three readings, every head put out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench import images, visual
from workbench.budget import in_parts, rows_at_once
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.models import Model
from workbench.probes.phi import default_tau
from workbench.progress import Report
from workbench.runs import Remember
from workbench.tasks.wording import describing
from workbench.visual.localising import localised
from workbench.visual.sizes import contrast_bytes, reading_bytes, telling_bytes
from workbench.visual.told import one_a_row
from workbench.visual.words import text_of
from workbench_analyses.visual.sights import Sets, Sight

UNIT = 32
"""Pictures in a unit of work."""
READ = "captions read"
"""Readings in messages about memory."""


@dataclass(frozen=True, eq=False)
class SpokenWord:
    """A word of a caption that names an object, and its T-VHD. picture: its name."""

    picture: str
    kind: str
    object: str
    step: int
    invented: bool
    t_vhd: float


@dataclass(frozen=True, eq=False)
class Measured:
    """scores: by name. words: that name objects, in the order of the contrast's samples. captions: by picture.

    left_out: why a score is missing, by its name. dims, tau: what makes a part of a picture a visual sink; sinks: share
    of parts that are, by layer.
    """

    scores: Mapping[str, HeadScores]
    words: Sequence[SpokenWord]
    captions: Mapping[str, str]
    left_out: Mapping[str, str]
    dims: Sequence[int]
    tau: float
    sinks: Float[np.ndarray, " layers"]


def measured(config: Any, model: Model, sets: Sets, remember: Remember, report: Report) -> Measured:
    """All scores. Those that cannot be made are left out, with the reason."""
    tau = _tau(config, model)
    every = [
        (kind, sights[i : i + UNIT], i) for kind, sights in sets["score"].items() for i in range(0, len(sights), UNIT)
    ]
    first = images.prompt(model, describing(model), every[0][1][0].image)
    dims = visual.sink_dimensions(model, first.tokens[:1, :1], tau)
    parts, metas, names, kinds = [], [], [], []
    for done, (kind, sights, start) in enumerate(every):
        report(done, len(every))

        def work(sights: Sequence[Sight] = sights) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            return _unit(config, model, sets, sights, tau, dims)

        arrays, meta = remember(f"score-{kind}-{start}", work)
        parts.append(arrays)
        metas.append(meta)
        names += [s.name for s in sights]
        kinds += [kind] * len(sights)
    report(len(every), len(every))
    return _joined(config, model, parts, metas, names, kinds, dims, tau)


def check_room(config: Any, model: Model, sight: Sight) -> None:
    """Raises TooLarge where a stated budget may not hold a caption of a picture: before any work, not behind half of it."""
    asked = _asked(model, [sight])
    n, parts = asked.tokens.shape[1], int(images.positions(model, asked.tokens)[0].sum())
    rows_at_once(model, READ, _room(model, n, parts, config.most))


def _room(model: Model, tokens: int, parts: int, steps: int) -> int:
    """Bytes of a caption of so many tokens: read, and with a head put out."""
    return max(reading_bytes(model, tokens, parts, steps), contrast_bytes(model, tokens + steps, steps))


def _tau(config: Any, model: Model) -> float:
    width = int(model.bridge.cfg.d_model)
    if config.tau is not None and config.tau > width**0.5:
        raise BadInput(f"tau={config.tau:g}: phi is at most √d = {width**0.5:.1f} here, it could never exceed it")
    return default_tau(width) if config.tau is None else config.tau


def per_token_scores(seen: visual.Reading, **fields: Any) -> dict[str, HeadScores]:
    """The scores that a reading gives by itself, by name."""
    return {
        "image_mass": visual.image_mass(seen, **fields),
        "vhd": visual.vhd(seen, **fields),
        "vhd_relative": visual.vhd(seen, "relative", **fields),
        "vhd_cosine": visual.vhd(seen, "cosine", **fields),
        "vhd_blank": visual.vhd(seen, against="blank", **fields),
        "visual_sinks": visual.visual_sinks(seen, **fields),
        "image_centric": visual.image_centric(seen, **fields),
    }


def _unit(
    config: Any, model: Model, sets: Sets, sights: Sequence[Sight], tau: float, dims: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of one unit: samples of each score, looks and entropies, effects and T-VHD of words."""
    size = min(config.batch, UNIT)
    if size > 1 and not one_a_row(_asked(model, sights[:2])):
        size = 1  # pictures that the model joins (Qwen-VL) are told one at a time: batch changes no number
    each = telling_bytes(model, _asked(model, sights[:1]).tokens.shape[1], config.most)

    def some(rows: slice) -> list[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        part = sights[rows]
        told = visual.tell(model, _asked(model, part), config.most)

        def read(rows: slice) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            return _scored(config, model, sets, part[rows], told.some(list(range(len(part))[rows])), tau, dims)

        n, parts = told.prompt.tokens.shape[1], int(told.pictures[0].sum())
        return in_parts(model, READ, len(part), _room(model, n, parts, told.said.shape[1]), read)

    found = [one for part in in_parts(model, "captions", len(sights), each, some, most=size) for one in part]
    arrays = {
        name: np.ascontiguousarray(np.concatenate([a[name] for a, _ in found if name in a]))
        for name in dict.fromkeys(name for a, _ in found for name in a)
    }
    metas = [meta for _, meta in found]
    lists = {name: [x for meta in metas for x in meta[name]] for name in ("texts", "words", "said")}
    return arrays, {**lists, "parameters": metas[-1]["parameters"]}


def _scored(
    config: Any, model: Model, sets: Sets, part: Sequence[Sight], told: visual.Told, tau: float, dims: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same of captions that are read in one forward."""
    seen = visual.read(model, told, tau, dims)
    scores = per_token_scores(seen)
    ids = [row[:n] for row, n in zip(told.said.tolist(), told.length.tolist(), strict=True)]
    words = [
        w for i, row in enumerate(ids)
        for w in visual.spoken(model.tokenizer, row, part[i].objects, sets.words, i)
    ]  # fmt: skip
    each = visual.t_vhd(seen)
    found = {name: s.per_sample for name, s in scores.items()} | {
        "looks": seen.looks, "entropy": seen.entropy, "sinks": seen.sinks,
        "t_vhd": np.array([each[w.row, w.step] for w in words]),
        "effects": visual.word_effects(model, told, words, config.contrast) if words else None,
    }  # fmt: skip
    return {name: np.asarray(x) for name, x in found.items() if x is not None and len(x)}, {
        "texts": [text_of(model.tokenizer, row) for row in ids],
        "words": [[part[w.row].name, w.step, w.object, w.invented] for w in words],
        "parameters": {name: [s.method, dict(s.parameters)] for name, s in scores.items()},
        "said": told.length.tolist(),
    }


def _asked(model: Model, sights: Sequence[Sight]) -> images.Prompt:
    return images.prompt(model, [describing(model)] * len(sights), [s.image for s in sights])


def _joined(
    config: Any, model: Model, parts: Sequence[Mapping[str, np.ndarray]], metas: Sequence[Mapping[str, Any]],
    names: Sequence[str], kinds: Sequence[str], dims: Sequence[int], tau: float,
) -> Measured:  # fmt: skip
    shape, left_out = (model.n_layers, model.n_heads), {}

    def whole(name: str) -> np.ndarray:
        found = [p[name] for p in parts if name in p]
        return np.concatenate(found) if found else np.zeros((0, *shape))

    fields, kind_of = visual.about(model), dict(zip(names, kinds, strict=True))
    told = tuple(n for n, length in zip(names, [n for m in metas for n in m["said"]], strict=True) if length)
    about = {**config.question_asked()}
    scores = {
        name: HeadScores.from_samples(whole(name), method, groups=told, parameters={**about, **own}, **fields)
        for name, (method, own) in metas[0]["parameters"].items()
    }
    rows = [row for m in metas for row in m["words"]]
    t_vhd = np.concatenate([p["t_vhd"] for p in parts if "t_vhd" in p]) if rows else []
    words = [
        SpokenWord(picture, kind_of[picture], word, int(step), bool(invented), float(t))
        for (picture, step, word, invented), t in zip(rows, t_vhd, strict=True)
    ]
    try:
        scores["localisation"] = localised(
            whole("looks"), whole("entropy"), groups=tuple(names), parameters=about, **fields
        )
    except BadInput as error:
        left_out["localisation"] = str(error)
    try:
        scores["causal_contrast"] = visual.causal_contrast(
            whole("effects"), np.array([w.invented for w in words], dtype=bool), [w.picture for w in words],
            parameters={**about, "measure": config.contrast}, **fields,
        )  # fmt: skip
    except BadInput as error:
        left_out["causal_contrast"] = str(error)
    texts = dict(zip(names, [t for m in metas for t in m["texts"]], strict=True))
    return Measured(scores, words, texts, left_out, dims, tau, np.concatenate([p["sinks"] for p in parts]).mean(0))
