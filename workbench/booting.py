"""TransformerLens' bridge from a place that Hugging Face loads from, ready for the seam."""

from __future__ import annotations

from typing import Any

import torch

from workbench import option_values, vision
from workbench.errors import ModelError, Unsupported, WorkbenchError
from workbench.installing import nothing_installed
from workbench.offloading import OwnFolder
from workbench.placing import Placement, placement
from workbench.reference_models import catalogue
from workbench.safe_loading import REMEDY, code_unread, safetensors_only

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in option_values.DTYPES}


def dtype_of(name: str | torch.dtype) -> torch.dtype:
    """A dtype by its name. Raises ModelError for one that models are not loaded in."""
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        raise ModelError(f"dtype={name} is not known: use one of {', '.join(DTYPES)}")
    return DTYPES[name]


def boot(place: str, dtype: torch.dtype, device: str | Placement | None, trust_remote_code: bool) -> Any:
    """A bridge in evaluation mode without gradients of weights. Raises ModelError and Unsupported in one line."""
    placed = placement(device) if device is None or isinstance(device, str) else device
    from transformer_lens.model_bridge import TransformerBridge
    from transformers.utils import logging

    logging.disable_progress_bar()  # shards of weights are no progress of the user's work
    planted = catalogue.PLANTED.get(place)
    built: dict[str, Any] = placed.options()
    disk = OwnFolder(placed.offload_folder) if placed.offload_folder else None
    if disk:
        built["offload_folder"] = disk.path
    if not placed.spread:
        built["device"] = _usable(placed.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        built |= planted.parts(dtype, built["device"]) if planted else {}
    elif planted:
        raise ModelError(f"{place} is wired in memory, on one device: use device=cpu or cuda")
    try:
        untrusted = not trust_remote_code
        with nothing_installed(), vision.unhindered(), safetensors_only(untrusted), code_unread(untrusted):
            bridge = TransformerBridge.boot_transformers(  # type: ignore[attr-defined]
                place, dtype=dtype, trust_remote_code=trust_remote_code, **built
            )
    except Unsupported:
        raise
    except Exception as error:  # other libraries, on somebody's files, raise what they like
        raise ModelError(f"{place}: cannot be loaded: {_reason(error)}") from error
    if not hasattr(bridge, "blocks"):
        raise Unsupported(f"{place}: this architecture has no stack of decoder blocks")
    if not len(bridge.blocks):
        raise ModelError(f"{place}: its config says that it has no layer")
    bridge.original_model.__dict__["own_folder"] = disk  # goes with the model
    vision.give_processor(bridge, place, trust_remote_code)
    bridge.eval()
    for p in bridge.original_model.parameters():
        p.requires_grad_(False)
    return bridge


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    if "use_safetensors" in said:  # Hugging Face's advice is to take the pickles
        return f"it has no safetensors, and pickled weights are not loaded; {REMEDY}"
    known = isinstance(error, WorkbenchError | ImportError | OSError | ValueError | RuntimeError)
    return said if known and said else f"{type(error).__name__}: {said}"


def _usable(device: str) -> str:
    """Raises ModelError for a device that torch does not know, or that is not there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"device={device}: cannot be used here ({reason}); use cpu, or leave it out") from None
    return device
