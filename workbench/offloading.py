"""Weights that accelerate keeps in memory or on disk until a module runs: what a look at them needs.

Modules then hold placeholders without values (device "meta"), and a hook of the module brings the values.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from workbench.errors import ModelError, Unsupported

BRIDGED = "_original_component."
"""What TransformerLens puts into the names of parameters; names of shared ones are without it."""


class OwnFolder:
    """A fresh folder below the one that was asked for, removed with this object or at the end of the process.

    Weights that transformers changes as it loads (experts) are written there under names that tell neither model nor
    dtype: a second model in the same folder would replace those of the first, which reads them at every forward.
    """

    def __init__(self, parent: str | os.PathLike[str]) -> None:
        """Raises ModelError where nothing can be written."""
        try:
            os.makedirs(parent, exist_ok=True)
            self.path = tempfile.mkdtemp(prefix="workbench-", dir=parent)
        except OSError as error:
            raise ModelError(f"disk={parent}: no weights can be kept there: {error.strerror or error}") from None
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(folder: str, pid: int) -> None:
    """A forked child, which ends with the same list of things to clean up, leaves the folder to its parent."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def device_of(model: Any) -> torch.device:
    """Where a model takes its inputs and computes: the device of its first weights, or to which they are brought."""
    first = next(model.parameters()).device
    if first.type != "meta":
        return first
    for module in model.modules():
        for hook in _hooks(module):
            return torch.device(hook.execution_device)
    raise Unsupported("the weights of this model are placeholders that nobody fills: load it with its weights")


def offloaded(model: Any) -> bool:
    """Whether any weights lie elsewhere until they are used."""
    return any(p.device.type == "meta" for p in model.parameters())


def refuse_offloaded(model: Any, what: str) -> None:
    """Raises Unsupported where weights that are read themselves may not be there."""
    if offloaded(model.bridge.original_model):
        raise Unsupported(
            f"{what} reads weights, and some of {model.name} lie in memory or on disk until a layer runs: load it whole on "
            "one device (device=cpu or cuda), or split over GPUs (device=gpus:2)"
        )


def named_values(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Every parameter with its values, brought one module at a time; one that is shared counts once, by its first name."""
    if not offloaded(model):
        yield from model.named_parameters()
        return
    ties = _ties(model)
    seen: set[str] = set()
    for prefix, module in model.named_modules():
        own = [(f"{prefix}.{name}" if prefix else name, name) for name in dict(module.named_parameters(recurse=False))]
        with present(module):
            for full, name in own:
                plain = full.replace(BRIDGED, "")
                group = ties.get(plain, plain)
                if group not in seen:
                    seen.add(group)
                    yield full, getattr(module, name)


@contextmanager
def present(module: Any) -> Iterator[None]:
    """Inside, the module's own weights have values."""
    with ExitStack() as stack:
        for hook in _hooks(module):
            hook.pre_forward(module)
            stack.callback(hook.post_forward, module, None)
        yield


def _hooks(module: Any) -> list[Any]:
    """accelerate's hooks of a module that bring its weights."""
    hook = module.__dict__.get("_hf_hook")
    each = getattr(hook, "hooks", (hook,))
    return [h for h in each if getattr(h, "offload", False)]


def _ties(model: Any) -> dict[str, str]:
    """Names of shared weights with the name of the one that they share."""
    return dict(getattr(model, "all_tied_weights_keys", None) or {})
