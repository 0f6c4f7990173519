"""How a vision-language model is asked: by its chat template where it has one, else in the words of the scenes."""

from __future__ import annotations

from typing import Any

from workbench.tasks.scenes import ASK, DESCRIBE

DESCRIBE_TO_CHAT = "Please describe this image in detail."
"""The instruction of the papers on CHAIR."""
ASK_CHAT = "Is there a {} in the image?"
"""POPE's question."""


def describing(model: Any) -> str:
    """The prompt that asks for a caption, with a placeholder for the picture."""
    return _asked(model, DESCRIBE, DESCRIBE_TO_CHAT)


def asking(model: Any, word: str) -> str:
    """The prompt that asks whether an object is in the picture."""
    return _asked(model, ASK.format(word), ASK_CHAT.format(word))


def _asked(model: Any, plain: str, chat: str) -> str:
    processor: Any = getattr(model.bridge, "processor", None)
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": chat}]
        return str(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))
    return f"{getattr(processor, 'image_token', '<image>')} {plain}"
