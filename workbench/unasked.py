"""Models that only a file names, as a run folder does: they are taken from this machine, and nothing is fetched.

Whose folder it is nobody knows. It may choose among what is here; it does not make this machine ask the hub.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from workbench.errors import ModelError

_FILE: ContextVar[str | None] = ContextVar("_FILE", default=None)
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""Either is in the cache where the weights of a hub's model are."""


@contextlib.contextmanager
def named_by(file: str | Path | None) -> Iterator[None]:
    """Inside, `load` takes a model that is bundled, a folder, or in the cache, and no other. file: None changes nothing."""
    if file is None:
        yield
        return
    before = _FILE.set(str(file))
    try:
        yield
    finally:
        _FILE.reset(before)


def check_here(place: str) -> None:
    """Raises ModelError for a hub id that is not in the cache, where only a file names it."""
    file = _FILE.get()
    if file is None or _cached(place):
        return
    raise ModelError(
        f"{file} names the model {place}, which is not on this machine, and nothing is fetched because a file says so: "
        f"if you want it, run hf download {place}"
    )


@contextlib.contextmanager
def kept_here(place: str) -> Iterator[None]:
    """Inside, Hugging Face does not ask the hub, where only a file names the model; says which is loaded then."""
    file = _FILE.get()
    if file is None:
        yield
        return
    from huggingface_hub import constants

    from workbench.progress import progress

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
    with progress() as stages:
        stages.note(f"note: the model is {place}, as {file} says")


def _cached(place: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    def there(name: str) -> bool:
        return isinstance(try_to_load_from_cache(place, name), str)

    return there("config.json") and any(map(there, WEIGHTS))
