"""The prompts of an atlas, asked: battery, pictures and roles, each a unit of work that can be resumed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.circuits import read_circuit
from workbench.errors import BadInput, Unsupported
from workbench.shards import depending
from workbench.tasks.needle import Assembler
from workbench_analyses.atlas_parts import battery, pictures
from workbench_analyses.atlas_parts.estimates import Estimate
from workbench_analyses.atlas_parts.measures import role_measure
from workbench_analyses.atlas_parts.patterns import RAW
from workbench_analyses.atlas_parts.side import Picture, Score
from workbench_analyses.atlas_parts.texts import Shown
from workbench_analyses.atlas_parts.work import Work, word


def ask_battery(work: Work, assembler: Assembler) -> battery.Found:
    """Needles, IOI and pictures, each left out with its reason where the model cannot."""
    config, model, found = work.config, work.model, battery.Found()
    parts: dict[str, tuple[int, Callable[[battery.Found], None]]] = {
        "needles": (config.needles, lambda f: _needles(work, assembler, f)),
        "ioi": (config.ioi, lambda f: _ioi(work, f)),
        "scenes": (config.scenes, lambda f: _scenes(work, f)),
    }
    report = work.stages.stage("battery")
    for i, (name, (n, ask)) in enumerate(parts.items()):
        try:
            if n:
                ask(found)
            else:
                found.left_out[name] = f"{name}=0"
        except (BadInput, Unsupported) as error:
            found.left_out[name] = battery.why_not(error)
        report(i + 1, len(parts))
    if "retrieval" in found.samples and np.isnan(found.samples["retrieval"]).all():
        found.left_out["retrieval"] = f"{model.name} told none of {len(found.samples['retrieval'])} needles"
    return found


def _needles(work: Work, assembler: Assembler, found: battery.Found) -> None:
    parts, stops = [], battery.needle_stops(work.model)
    made = battery.needle_blocks(work.config, work.model, assembler)
    for block in made:
        parts.append(work.unit(f"needles-{block.name}", lambda b=block: battery.score_needles(work.model, b, stops)))
    found.samples |= {name: np.concatenate([p[name] for p in parts])[: work.config.needles] for name in parts[0]}
    for one in made[0].samples[1:4:2]:
        spans = {name: one.spans[name] for name in ("answer", "question")}
        found.shown.append(Shown(f"needle at {one.depth:.0f} %", (*one.tokens, *one.answer), spans))


def _ioi(work: Work, found: battery.Found) -> None:
    prompts = battery.ioi_prompts(work.config, work.model)
    found.samples |= work.unit("ioi", lambda: battery.score_ioi(work.model, prompts, work.config.batch))
    for i, one in enumerate(prompts.prompts[:2]):
        spans = {name: one.spans[name] for name in ("IO", "S1", "S2")}
        found.shown.append(Shown(f"IOI {i + 1}", one.clean, spans))


def _scenes(work: Work, found: battery.Found) -> None:
    prompts = battery.scene_prompts(work.config, work.model)
    found.samples |= work.unit("scenes", lambda: battery.score_scenes(work.model, prompts))
    for i, one in enumerate(prompts[:2]):
        spans = battery.picture_span(work.model, one)
        found.shown.append(Shown(f"scene {i + 1}", tuple(one.tokens[0].tolist()), spans, one.inputs))


def draw(work: Work, shown: list[Shown]) -> tuple[Picture, ...]:
    """The pattern of every head on every prompt that is shown."""
    heads, models = work.model.n_layers * work.model.n_heads, 1 + (work.config.also is not None)
    side, made, report = pictures.side(heads, len(shown), models), [], work.stages.stage("pictures")
    for i, one in enumerate(shown):
        unit = depending("picture", [one.name, one.tokens, side])  # which are shown hangs on the battery
        levels = work.unit(unit, lambda s=one: {"levels": pictures.levels(work.model, s, side)})["levels"]
        made.append(pictures.picture(one, tuple(word(work.model, t) for t in one.tokens), levels))
        report(i + 1, len(shown))
    return tuple(made)


def role_scores(work: Work) -> list[Score]:
    """Roles of a traced circuit as scores: the largest share that a head has under a role."""
    if not work.config.circuit or work.prefix:
        return []
    circuit = read_circuit(work.config.circuit)
    shape = (work.model.n_layers, work.model.n_heads)
    if (circuit.n_layers, circuit.n_heads) != shape or circuit.model.weights != work.identity.weights:
        raise BadInput(
            f"circuit={work.config.circuit}: traced in {circuit.model.name} ({circuit.n_layers} × {circuit.n_heads} heads), "
            f"not in this {work.model.name}: trace it in this model"
        )
    found: dict[str, Estimate] = {}
    for one in circuit.heads:
        made = found.setdefault(one.role, Estimate(np.zeros(shape), np.zeros(shape), np.zeros(shape), circuit.n))
        if abs(one.share) > abs(made.values[one.head]):
            made.values[one.head], made.low[one.head], made.high[one.head] = one.share, one.low, one.high
    return [Score(role_measure(role), RAW, made) for role, made in sorted(found.items())]
