"""The same model trained from other seeds: what is shown of one may be that training's alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.jobs import Job
from workbench.models import Model, load
from workbench_analyses.visual.measuring import measured
from workbench_analyses.visual.seeing import check_shown
from workbench_analyses.visual.sights import Sets
from workbench_analyses.visual_heads import ScanVisual


def loaded(config: ScanVisual, first: Model) -> list[Model]:
    """The models of `seeds=`. Raises BadInput for one of another shape, and for the same weights twice."""
    out, known = [], {first.identity()[1]}
    for place in config.seeds:
        model = load(place, config.dtype, config.device, config.trust_remote_code)
        model.memory = config.memory
        check_shown(model)
        if (model.n_layers, model.n_heads) != (first.n_layers, first.n_heads):
            raise BadInput(
                f"seeds={place}: {model.n_layers} × {model.n_heads} heads, {first.name} has {first.n_layers} × "
                f"{first.n_heads}: name trainings of the same recipe"
            )
        if (weights := model.identity()[1]) in known:
            raise BadInput(f"seeds={place}: these weights are already asked: name trainings from different seeds")
        known.add(weights)
        out.append(model)
    return out


def scored(job: Job[ScanVisual], models: list[Model], shown: Sets) -> list[tuple[Model, Mapping[str, HeadScores]]]:
    """Each with the scores of its own heads, from the same pictures."""
    out = []
    for i, model in enumerate(models, 1):

        def remember(unit: str, work: Callable[[], Any], i: int = i) -> Any:
            return job.remember(f"seed-{i}-{unit}", work)

        report = job.stages.stage(f"scores of heads, seed {i + 1}")
        out.append((model, measured(job.config, model, shown, remember, report).scores))
    return out
