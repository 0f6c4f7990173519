"""Which code computes attention: what can be asked for, what "auto" picks, and why.

chunked: any device, torch alone. triton: GPUs. reference: the float64 truth, slow on purpose. hooks: TransformerLens'
own eager attention with edits and statistics as hooks on whole patterns, in code of its own: for checking.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, Statistics
from workbench_kernels import attend as attend_by
from workbench_kernels.chunked import norms
from workbench_kernels.statistics import statistics as chunked_statistics
from workbench_kernels.triton_support import why_not

from workbench.backend_names import checked
from workbench.errors import Unsupported


def no_triton(device: torch.device) -> str | None:
    """Why nothing on a device can go to Triton; None where it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it runs on a GPU, not on {device.type}"
    return None


def unable(name: str, device: torch.device) -> str | None:
    """Why a backend cannot work on a device at all; None where it can."""
    if name == "triton":
        return no_triton(device)
    if name == "reference" and device.type != "cpu":
        return "it is for the processor: move the model there"
    return None


def demand(name: str, device: torch.device) -> None:
    """Raises Unsupported, with the reason, where a backend cannot work on a device at all."""
    reason = unable(checked(name), device)
    if reason is not None:
        raise Unsupported(f"backend={name} cannot do this: {reason}; use auto or chunked")


@contextlib.contextmanager
def used(model: Any, name: str) -> Iterator[None]:
    """Inside, the model computes attention by this backend. Raises Unsupported where it cannot work there."""
    demand(name, model.device)
    before, model.backend = model.backend, name
    try:
        yield
    finally:
        model.backend = before


def in_words(name: str, device: torch.device) -> str:
    """A backend for the record of a run: what was asked, and what "auto" picks."""
    if name != "auto":
        return name
    return "auto (triton where it can)" if device.type == "cuda" and no_triton(device) is None else "auto (chunked)"


def pick(name: str, q: Tensor, spec: AttentionSpec, edits: list[HeadEdits], want: Reductions | None, grad: bool) -> str:
    """The backend of one attention call. Raises Unsupported, with the reason, where the one asked for cannot do it.

    grad: whether a backward pass may follow.
    """
    if want is not None and want.grad and torch.is_grad_enabled() and name in ("reference", "hooks"):
        raise Unsupported(f"backend={name} gives statistics without gradients: use auto or chunked")
    if name not in ("auto", "triton"):
        demand(name, q.device)
        return name
    reason = no_triton(q.device) or why_not(spec, edits, want) or ("gradients" if grad else None)
    reason = reason or ("float64" if q.dtype == torch.float64 else None)
    if reason is None and (name == "triton" or q.device.type == "cuda"):
        return "triton"
    if name == "triton":
        raise Unsupported(f"backend=triton cannot do this: {reason}; use auto or chunked")
    return "chunked"


def attend(
    name: str, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: list[HeadEdits], want: Reductions | None
) -> tuple[Tensor, Statistics]:
    """Output in the type of q, and statistics, by the backend that is picked."""
    grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    z, found = attend_by(q, k, v, spec, edits, want, pick(name, q, spec, edits, want, grad))
    return z.to(q.dtype), found


def statistics(
    name: str, q: Tensor, k: Tensor, z: Tensor, spec: AttentionSpec, edits: list[HeadEdits], want: Reductions
) -> Statistics:
    """A further request on a call whose output z is there."""
    picked = pick(name, q, spec, edits, want, False)
    if picked == "chunked":
        found = chunked_statistics(q, k, spec, edits, want)
    else:
        with torch.no_grad():
            found = attend_by(q, k, k, spec, edits, want, picked)[1]
    found.norms = norms(z, want.grad and torch.is_grad_enabled()) if want.norms else None
    return found


def explanation() -> str:
    """What "auto" picks on this machine, and why."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reason = no_triton(device) if device.type == "cuda" else "no GPU that torch can use"
    if reason is not None:
        return f"picks chunked for everything: {reason}"
    return (
        "on a GPU: triton where it can do the request, chunked for float64, gradients, uniform heads, replaced rows, "
        "distance profiles and moments, offsets, matching keys, top keys of every row, and mask functions that Triton does "
        "not know; on the processor: chunked"
    )
