"""Chat templates: programs that come with a tokenizer. Hugging Face runs them in Jinja's sandbox; they fail as they like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import BadInput


def rendered(owner: Any, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
    """What a tokenizer's or a processor's template makes of messages. Raises BadInput for whatever it raises."""
    try:
        return str(owner.apply_chat_template(list(messages), add_generation_prompt=True, **options))
    except Exception as error:  # a template is somebody's program
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadInput(f"template=chat: the model's chat template fails ({reason}); use template=none") from None
