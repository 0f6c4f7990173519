"""Memory that runs out above so many rows, as on a GPU that is full."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def narrow(monkeypatch):
    """Let a model run out of memory with more than so many rows; gives the rows of the forwards that went well."""

    def start(model, most):
        went, bridge = [], type(model.bridge).__call__

        def spy(self, tokens, *args, **kwargs):
            if len(tokens) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            went.append(len(tokens))
            return bridge(self, tokens, *args, **kwargs)

        monkeypatch.setattr(type(model.bridge), "__call__", spy)
        monkeypatch.setattr(model, "ceilings", {})
        return went

    return start
