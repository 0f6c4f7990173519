"""Layers and heads of a model, from its config alone, and whether scores fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput, ModelError
from workbench.heads import HeadScores, ModelIdentity
from workbench.untrusted import read_json

if TYPE_CHECKING:
    from workbench.models import Model

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads")
_KV = ("num_key_value_heads", "num_kv_heads", "n_head_kv")


@dataclass(frozen=True)
class Geometry:
    """Layers, query heads and key-value heads a layer. identity: None where only the config was read."""

    name: str
    layers: int
    heads: int
    kv_heads: int
    identity: ModelIdentity | None = None

    def __str__(self) -> str:
        """In words."""
        return f"{self.name} has {self.layers} layers × {self.heads} heads, {self.kv_heads} key-value heads"


def of_config(config: Mapping[str, Any], name: str) -> Geometry:
    """From the record of a Hugging Face config.json. Raises BadInput where it does not say."""
    inner = config.get("text_config")
    held = inner if isinstance(inner, Mapping) else config

    def number(names: tuple[str, ...]) -> int | None:
        return next((held[n] for n in names if type(held.get(n)) is int and held[n] > 0), None)

    layers, heads = number(_LAYERS), number(_HEADS)
    if layers is None or heads is None:
        raise BadInput(f"{name} does not say how many layers and heads the model has (num_hidden_layers, …)")
    kv = number(_KV) or heads
    if heads % kv:
        raise BadInput(f"{name}: {heads} heads cannot share {kv} key-value heads")
    return Geometry(name, layers, heads, kv)


def of_model(model: str | Path | Model, identify: bool = False, dtype: str = "float32") -> Geometry:
    """Of a loaded model, a bundled name, a folder or a hub id. identify: load it, to know which weights it has.

    dtype: in which the weights are loaded then; the identity of a model holds it. Raises BadInput or ModelError.
    """
    if isinstance(model, str | Path) and not identify and (config := _config(str(model))) is not None:
        record = read_json(config)
        if not isinstance(record, dict):
            raise BadInput(f"{config} is no config of a model")
        return of_config(record, str(model))
    from workbench.models import load

    found = load(model, dtype)
    identity = ModelIdentity(found.name, *found.identity())
    return Geometry(found.name, found.n_layers, found.n_heads, found.n_kv_heads, identity)


def _config(model: str) -> Path | None:
    """The config.json of a folder, or of a hub id (that file alone is fetched); None for a planted model."""
    from workbench.reference_models.catalogue import PLANTED
    from workbench.sources import locate

    place = locate(model).place
    if place in PLANTED:
        return None
    if (local := Path(place) / "config.json").is_file():
        return local
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(place, "config.json"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{model}: its config cannot be had: {' '.join(str(error).split())[:200]}") from None


def fitted(scores: HeadScores, model: str | Path | Model) -> tuple[HeadScores, Geometry]:
    """Scores with the model's key-value heads, checked against it.

    Shapes are compared always; config and weights where the scores say which model was measured. Raises BadInput for
    the scores of another model.
    """
    found = of_model(model, scores.verified, str(scores.parameters.get("dtype", "float32")))
    if scores.n_layers != found.layers or scores.n_heads not in (found.heads, found.kv_heads):
        raise BadInput(
            f"the scores are {scores.n_layers} × {scores.n_heads} heads, but {found}: they are another model's"
        )
    if scores.model and found.identity and not _same(scores.model, found.identity):
        raise BadInput(
            f"the scores were measured on {scores.model.name} (config {scores.model.config_hash}, weights "
            f"{scores.model.weights}), not on {found.name} ({found.identity.config_hash}, {found.identity.weights})"
        )
    if scores.kv_heads not in (None, found.kv_heads):
        raise BadInput(f"the scores name {scores.kv_heads} key-value heads, but {found}")
    return replace(scores, kv_heads=found.kv_heads), found


def _same(a: ModelIdentity, b: ModelIdentity) -> bool:
    return (a.config_hash, a.weights) == (b.config_hash, b.weights)
