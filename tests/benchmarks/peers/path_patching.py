"""Path patching as the code of Wang et al. and of Merullo et al. does it, on the bridge: two hooked forwards per sender.

Kinder than the released code in one way: one hook a layer, not one a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Released:
    """Clean and corrupted caches, then pass C (all heads frozen) and pass D (receivers patched) of a sender at a time."""

    def __init__(self, bridge: Any, clean: Tensor, corrupted: Tensor, answers: Tensor) -> None:
        self.bridge, self.clean, self.answers, self.layers = bridge, clean, answers, len(bridge.blocks)
        self.caches = [self._cache(tokens) for tokens in (clean, corrupted)]
        self.base = self._difference([])

    def effects(
        self, senders: Sequence[tuple[int, int]], receivers: Sequence[tuple[str, int, int]], frozen: bool
    ) -> Tensor:
        """[senders, batch]. receivers: empty for the logits, else (channel, layer, head), all at the last column."""
        return torch.stack([self._effect(sender, receivers, frozen) for sender in senders])

    def _effect(self, sender: tuple[int, int], receivers: Sequence[tuple[str, int, int]], frozen: bool) -> Tensor:
        last = f"blocks.{self.layers - 1}.hook_resid_post"
        names = {f"blocks.{layer}.attn.hook_{channel}" for channel, layer, _ in receivers} or {last}
        stored: dict[str, Tensor] = {}
        hooks: list[tuple[str, Any]] = [
            (name, lambda x, hook, name=name: stored.__setitem__(name, x.clone())) for name in names
        ]
        hooks += [(f"blocks.{layer}.attn.hook_z", self._freeze(layer, sender)) for layer in range(self.layers)]
        if frozen:
            hooks += [(f"blocks.{layer}.hook_mlp_out", self._freeze_mlp(layer)) for layer in range(self.layers)]
        with self.bridge.hooks(fwd_hooks=hooks):
            self.bridge(self.clean)
        return self._difference([(name, _patch(name, receivers, stored[name])) for name in names]) - self.base

    def _freeze(self, layer: int, sender: tuple[int, int]) -> Any:
        name = f"blocks.{layer}.attn.hook_z"

        def hook(z: Tensor, hook: Any) -> Tensor:
            z = self.caches[0][name].clone()
            if layer == sender[0]:
                z[:, -1, sender[1]] = self.caches[1][name][:, -1, sender[1]]
            return z

        return hook

    def _freeze_mlp(self, layer: int) -> Any:
        return lambda x, hook: self.caches[0][f"blocks.{layer}.hook_mlp_out"]

    def _difference(self, hooks: list[tuple[str, Any]]) -> Tensor:
        with self.bridge.hooks(fwd_hooks=hooks):
            last = self.bridge(self.clean)[:, -1]
        return last.gather(1, self.answers[:, :1])[:, 0] - last.gather(1, self.answers[:, 1:])[:, 0]

    def _cache(self, tokens: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        names = [f"blocks.{i}.{part}" for i in range(self.layers) for part in ("attn.hook_z", "hook_mlp_out")]
        with self.bridge.hooks(fwd_hooks=[(n, lambda x, hook, n=n: found.__setitem__(n, x)) for n in names]):
            self.bridge(tokens)
        return found


def _patch(name: str, receivers: Sequence[tuple[str, int, int]], value: Tensor) -> Any:
    heads = [head for channel, layer, head in receivers if name == f"blocks.{layer}.attn.hook_{channel}"]

    def hook(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        if heads:
            x[:, -1, heads] = value[:, -1, heads]
        else:
            x[:, -1] = value[:, -1]
        return x

    return hook
