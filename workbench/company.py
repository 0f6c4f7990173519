"""Whether somebody else changes or watches a model's forwards: such forwards cannot be split, moved or left out."""

from __future__ import annotations

from typing import Any

from workbench.errors import Unsupported


def company(model: Any) -> str | None:
    """What is in force, in words: edits, observers, a hook; None where the model is alone."""
    if model.edits or model.observers:
        return "`intervene` or `observing` is in force"
    for name, point in model.bridge.hook_dict.items():
        for handle in [*point.fwd_hooks, *point.bwd_hooks]:  # TransformerLens itself keeps some on bare MLPs
            if not getattr(handle.user_hook, "__module__", "").startswith("transformer_lens"):
                return f"the hook on {name}"
    return None


def refuse_company(model: Any, who: str = "patching") -> None:
    """Raises Unsupported where somebody changes or watches the model's runs: they would not be in what is computed."""
    if model.edits or model.observers:
        raise Unsupported(f"{who} runs the plain model: call it outside `intervene` and `observing`")
    if there := company(model):
        raise Unsupported(f"{who} runs the plain model: remove {there}")
