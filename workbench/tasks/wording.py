"""How a vision-language model is asked: by its chat template where it has one, else in the words of the scenes."""

from __future__ import annotations

from typing import Any

from workbench.tasks.chat_templates import rendered
from workbench.tasks.scenes import ASK, DESCRIBE

DESCRIBE_TO_CHAT = "Please describe this image in detail."
"""The instruction of the papers on CHAIR."""
ASK_CHAT = "Is there a {} in the image?"
"""POPE's question."""
SENTENCE = 16
"""Tokens that hold the first sentence of an answer."""


def describing(model: Any) -> str:
    """The prompt that asks for a caption, with a placeholder for the picture."""
    return _asked(model, DESCRIBE, DESCRIBE_TO_CHAT)


def asking(model: Any, word: str) -> str:
    """The prompt that asks whether an object is in the picture."""
    return _asked(model, ASK.format(word), ASK_CHAT.format(word))


def answer_tokens(model: Any) -> int:
    """Tokens of an answer, at most: chat models answer in a sentence, those asked in the words of the scenes in a word.

    The bundled model was taught no end of an answer: behind its word it goes on, and the rest would be read, too.
    """
    return SENTENCE if _chats(model) else 1


def _chats(model: Any) -> bool:
    return bool(getattr(getattr(model.bridge, "processor", None), "chat_template", None))


def _asked(model: Any, plain: str, chat: str) -> str:
    processor: Any = getattr(model.bridge, "processor", None)
    if _chats(model):
        content = [{"type": "image"}, {"type": "text", "text": chat}]
        return rendered(processor, [{"role": "user", "content": content}])
    return f"{getattr(processor, 'image_token', '<image>')} {plain}"
