"""What a calibration is asked: which layers, and which list, if one is given."""

from __future__ import annotations

from workbench.controls import Heads
from workbench.errors import BadInput
from workbench.head_lists import about_list, read_heads
from workbench.heads import Head, ModelIdentity
from workbench.jsonable import jsonable
from workbench.models import Model
from workbench_analyses.calibrate_heads import CalibrateHeads


def given_heads(config: CalibrateHeads, model: Model) -> Heads:
    """The list to be judged. Raises BadInput for one without heads, or with heads that the model has not."""
    heads = tuple((layer, head) for layer, head in read_heads(str(config.heads)))
    if not heads:
        raise BadInput(f"heads={config.heads}: no head in it")
    unknown = [h for h in heads if h[0] not in model.seam.layers or h[1] >= model.n_heads]
    if unknown:
        raise BadInput(
            f"heads={config.heads}: {Head(*unknown[0])} is no head of {model.name}, which has {model.n_heads} heads in "
            f"layers {sorted(model.seam.layers)}"
        )
    return tuple(sorted(heads))


def list_source(config: CalibrateHeads, model: ModelIdentity) -> str:
    """Where a list is from, and what it says of itself that is otherwise here."""
    about = about_list(str(config.heads))
    was = {name: about.get(name) for name in ("model", "weights")} | (about.get("calibrate") or {})
    now = jsonable({"model": model.name, "weights": model.weights, **config.question_asked()})
    other = [f"{name}={value}" for name, value in was.items() if value is not None and value != now.get(name)]
    return f"{config.heads} (chosen with {', '.join(other)})" if other else str(config.heads)


def tried_layers(config: CalibrateHeads, model: Model, listed: Heads = ()) -> tuple[int, ...]:
    """Layers as asked, or all but the first two and the last of 32, as fractions of the depth (the paper's choice).

    Layers of a list that is given are always among them, for its controls are drawn there.
    """
    n, own = model.n_layers, {layer for layer, _ in listed}
    if config.layers is None:
        chosen = {i for i in range(round(2 * n / 32), n - round(n / 32)) if i in model.seam.layers} | own
        if not chosen:
            raise BadInput(
                f"{model.name}: no attention in its middle layers; give layers= of {sorted(model.seam.layers)}"
            )
        return tuple(sorted(chosen))
    unknown = [i for i in config.layers if i not in model.seam.layers]
    if unknown:
        raise BadInput(f"layers={unknown}: {model.name} has attention in layers {sorted(model.seam.layers)}")
    return tuple(sorted(own.union(config.layers)))
