"""What is said before torch is imported: a model without eyes, and pictures that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.errors import Unsupported
from workbench.reference_models.catalogue import PLANTED
from workbench.sources import locate
from workbench.untrusted import LARGEST_CONFIG, parsed, text_of
from workbench_analyses.visual.sights import picture_files

EYES = ("vision_config", "image_token_id", "image_token_index", "vision_tower")
"""Keys of a config.json, any of which says that the model is shown pictures."""


def check_sees(config: Any) -> None:
    """Raises Unsupported for a model of text alone, as far as its folder tells, BadInput for a folder without pictures."""
    place = locate(config.model, config.trust_remote_code).place
    path = Path(place) / "config.json"
    if place in PLANTED or (path.is_file() and not set(EYES) & _keys(path)):
        raise blind(config.model)
    if config.images is not None:
        picture_files(config.images)


def _keys(config: Path) -> set[str]:
    """The keys of a config.json that `locate` has let pass."""
    return set(parsed(text_of(config, LARGEST_CONFIG), parse_constant=float))


def check_shown(model: Any) -> None:
    """Raises Unsupported for a loaded model of text alone."""
    config = model.bridge.original_model.config
    if not any(hasattr(config, key) for key in EYES):
        raise blind(model.name)


def blind(name: str) -> Unsupported:
    """The error for a model that reads text alone."""
    return Unsupported(
        f"{name}: a model of text alone, it is shown no pictures; use a vision-language model, such as llava"
    )
