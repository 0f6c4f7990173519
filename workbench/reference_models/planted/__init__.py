"""Planted models: wired by hand, so that what every head does is known by construction.

One file a model, each with one frozen `PLANTED` value; nothing is shipped, the weights are built on load.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

LABEL = "workbench planted model, wired by hand"
Roles = Mapping[str, tuple[tuple[int, int], ...]]
"""What heads do: role → (layer, head) of each head that does it."""


@dataclass(frozen=True)
class Planted:
    """A model that is wired on load. `build` gives a Hugging Face model in float32 and its tokenizer.

    roles is the ground truth: every head stands under at least one role. sinks: the token on whose first occurrence
    the heads of a role park, for roles that park.
    """

    name: str
    summary: str
    build: Callable[[], tuple[Any, Any]]
    roles: Roles
    sinks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    label: str = LABEL

    def parts(self, dtype: Any, device: str) -> dict[str, Any]:
        """What `boot_transformers` takes besides the name; a model that is handed to it must be placed beforehand."""
        model, tokenizer = self.build()
        for p in model.parameters():  # the buffers stay: rotary frequencies are float32 in every loaded model too
            p.data = p.data.to(dtype)
        model.config.dtype = dtype
        return {"hf_model": model.to(device), "tokenizer": tokenizer}


def planted_models() -> dict[str, Planted]:
    """Planted models by name, sorted. Raises RuntimeError if two modules claim one name."""
    found: dict[str, Planted] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        planted = getattr(importlib.import_module(module.name), "PLANTED", None)
        if not isinstance(planted, Planted):
            continue
        if planted.name in found:
            raise RuntimeError(f"{module.name}: {planted.name!r} is defined twice")
        found[planted.name] = planted
    return dict(sorted(found.items()))
