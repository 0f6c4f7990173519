"""What TransformerLens 4.3 leaves out of vision-language models, given back while one is loaded.

It asks for torchvision before it loads Qwen's and GLM's, though only their processors of videos need it; it leaves a
model without any processor where that of videos cannot be loaded; and it does not know SmolVLM, which is built as
Idefics3 is. Pictures need pillow alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

WHY_NONE = "_workbench_no_processor"
"""Attribute of a bridge without a processor: why it has none."""


@contextlib.contextmanager
def unhindered() -> Iterator[None]:
    """Inside, models that TransformerLens refuses for want of torchvision are loaded, and SmolVLM is known."""
    from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter

    _register_smolvlm()
    before = ArchitectureAdapter._check_required_libraries

    def check(self: Any) -> None:
        self.required_libraries = [name for name in self.required_libraries if name != "torchvision"]
        before(self)

    ArchitectureAdapter._check_required_libraries = check
    try:
        yield
    finally:
        ArchitectureAdapter._check_required_libraries = before


def give_processor(bridge: Any, place: str, trust_remote_code: bool = False) -> None:
    """A processor of pictures and text for a model whose own one would take videos, too, and cannot be loaded.

    Where none can be made the bridge is left without, and remembers why (see `why_none`).
    """
    if getattr(bridge, "processor", None) is not None or not getattr(bridge.cfg, "is_multimodal", False):
        return
    try:
        found = without_videos(type(bridge.original_model.config))
        bridge.processor = found and found.from_pretrained(place, trust_remote_code=trust_remote_code)
    except (ImportError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        object.__setattr__(bridge, WHY_NONE, " ".join(str(error).split())[:200])


def why_none(bridge: Any) -> str:
    """Why no processor could be made, in brackets; nothing where nobody knows."""
    reason = getattr(bridge, WHY_NONE, "")
    return f" ({reason})" if reason else ""


def without_videos(config: type) -> type | None:
    """The processor class of a config without its processor of videos; None where it has none to leave out."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    found: Any = PROCESSOR_MAPPING.get(config, None)
    if found is None or "video_processor" not in found.get_attributes():
        return None
    known = [name for name in found.get_attributes() if name != "video_processor"]
    return type(found.__name__, (found,), {"get_attributes": classmethod(lambda _: list(known))})


def _register_smolvlm() -> None:
    from transformer_lens.factories import architecture_adapter_factory as factory
    from transformer_lens.utilities.architectures import MULTIMODAL_ARCHITECTURES

    name, like = "SmolVLMForConditionalGeneration", "Idefics3ForConditionalGeneration"
    if name not in factory.SUPPORTED_ARCHITECTURES:
        factory.SUPPORTED_ARCHITECTURES[name] = factory.SUPPORTED_ARCHITECTURES[like]
        factory.ArchitectureAdapterFactory.register_adapter(name, factory.SUPPORTED_ARCHITECTURES[like])
        MULTIMODAL_ARCHITECTURES.add(name)
