"""Loading a model changes no environment: TransformerLens would install torchvision, and another torch with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def nothing_installed() -> Iterator[None]:
    """Inside, TransformerLens 4.3 does not run pip when a processor of pictures is missing; the model then has none."""
    from transformer_lens.model_bridge.sources.transformers import helpers

    before = helpers._ensure_torchvision
    helpers._ensure_torchvision = lambda: False
    try:
        yield
    finally:
        helpers._ensure_torchvision = before
