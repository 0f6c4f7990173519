"""While a model is loaded, its files run nothing: pickled weights are not read, and Python beside them is not imported.

Hugging Face would load a hub model that has no safetensors from its pickles, and ask a service of the hub's to convert
them, in a thread of its own; a config may name a pickle beside the safetensors. TransformerLens 4.3 imports Python from
beside the weights of architectures that are known to bring some, whether or not trust_remote_code is given. Nothing of
this is wanted here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from workbench.errors import ModelError

CONVERTING = "DISABLE_SAFETENSORS_CONVERSION"
REMEDY = "save the model with save_pretrained(..., safe_serialization=True)"
TRUSTING = "trust_remote_code=true runs it, if you trust it"


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


@contextlib.contextmanager
def code_unread(wanted: bool = True) -> Iterator[None]:
    """Inside, no Python that comes with a model is fetched or run. Raises ModelError where loading fails for want of it.

    wanted: False where the user trusts the model's own code.
    """
    if not wanted:
        yield
        return
    import transformers.dynamic_module_utils as dynamic

    before, asked = dynamic.get_cached_module_file, []

    def refuse(place: Any, file: str, *args: Any, **options: Any) -> Any:
        asked.append(file)
        raise ModelError(f"{file} is not run")

    dynamic.get_cached_module_file = refuse
    try:
        yield
    except Exception as error:  # whoever asked may have swallowed the refusal, and failed for another reason later
        if not asked:
            raise
        raise ModelError(f"needs code of its own ({asked[0]}); {TRUSTING}") from error
    finally:
        dynamic.get_cached_module_file = before
