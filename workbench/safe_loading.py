"""While a model is loaded, pickled weights are not: a pickle may run code, and torch's guarded reader has had holes.

Hugging Face would load a hub model that has no safetensors from its pickles, and ask a service of the hub's to convert
them, in a thread of its own; a config may name a pickle beside the safetensors. Neither is wanted here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from workbench.errors import ModelError

CONVERTING = "DISABLE_SAFETENSORS_CONVERSION"
REMEDY = "save the model with save_pretrained(..., safe_serialization=True)"


@contextlib.contextmanager
def safetensors_only(wanted: bool = True) -> Iterator[None]:
    """Inside, Hugging Face loads safetensors, and torch.load raises ModelError; nobody is asked to convert anything.

    wanted: False where the user runs the model's own code anyway.
    """
    if not wanted:
        yield
        return
    import torch
    from transformers import PreTrainedModel

    loading, unpickling = PreTrainedModel.__dict__["from_pretrained"], torch.load
    converting = os.environ.get(CONVERTING)

    def from_pretrained(cls: Any, *args: Any, **options: Any) -> Any:
        return loading.__get__(None, cls)(*args, **{**options, "use_safetensors": True})

    def refuse(*args: Any, **options: Any) -> Any:
        raise ModelError(f"pickled weights are not loaded: {REMEDY}")

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)  # pyright: ignore[reportAttributeAccessIssue]
    torch.load = refuse
    os.environ[CONVERTING] = "true"
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained, torch.load = loading, unpickling
        os.environ.pop(CONVERTING)
        if converting is not None:
            os.environ[CONVERTING] = converting
