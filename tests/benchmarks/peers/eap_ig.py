"""EAP-IG on inputs as the code of Hanna et al. (hannamw/EAP-IG) does it, on the bridge.

All writes of all nodes in one tensor of differences; a hook on the input of every reader multiplies its gradient with the
writes before it, in every step anew. The bridge's flags give each head its own copy of the residual stream, as there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Graph:
    """Writers and readers of a sequential model without grouped queries, in the order of the model."""

    def __init__(self, bridge: Any) -> None:
        self.bridge, self.layers, self.heads = bridge, int(bridge.cfg.n_layers), int(bridge.cfg.n_heads)
        self.writers: list[tuple[str, slice]] = [("blocks.0.hook_resid_pre", slice(0, 1))]
        self.readers: list[tuple[str, int, slice]] = []  # hook, writers before it, columns
        column = 0
        for layer in range(self.layers):
            seen = self.writers[-1][1].stop
            for channel in "qkv":
                name = f"blocks.{layer}.hook_{channel}_input"
                self.readers.append((name, seen, slice(column, column + self.heads)))
                column += self.heads
            self.writers.append((f"blocks.{layer}.attn.hook_result", slice(seen, seen + self.heads)))
            self.readers.append((f"blocks.{layer}.hook_mlp_in", seen + self.heads, slice(column, column + 1)))
            column += 1
            self.writers.append((f"blocks.{layer}.hook_mlp_out", slice(seen + self.heads, seen + self.heads + 1)))
        self.shape = (self.writers[-1][1].stop, column + 1)
        self.readers.append((f"blocks.{self.layers - 1}.hook_resid_post", self.shape[0], slice(column, column + 1)))

    def scores(self, clean: Tensor, corrupted: Tensor, answers: Tensor, steps: int) -> Tensor:
        """(corrupted − clean write) · gradient, summed over the batch, [writers, readers]."""
        with self._copies():
            with torch.no_grad():
                runs = [self._writes(tokens) for tokens in (clean, corrupted)]
            change, total = runs[1] - runs[0], clean.new_zeros(self.shape, dtype=runs[0].dtype)
            for step in range(steps):
                share = (step + 1) / steps
                entry = (runs[0][:, :, 0] + share * change[:, :, 0]).requires_grad_()
                hooks = [("blocks.0.hook_resid_pre", lambda x, hook, entry=entry: entry)]
                back = [(name, self._reads(change, total, seen, at)) for name, seen, at in self.readers]
                with self.bridge.hooks(fwd_hooks=hooks, bwd_hooks=back):
                    last = self.bridge(clean)[:, -1]
                    (last.gather(1, answers[:, :1]) - last.gather(1, answers[:, 1:])).sum().backward()
        return total / steps

    def _reads(self, change: Tensor, total: Tensor, seen: int, at: slice) -> Any:
        def hook(slope: Tensor, hook: Any) -> None:
            slope = slope if slope.dim() == 4 else slope[:, :, None]
            total[:seen, at] += torch.einsum("bpfd,bphd->fh", change[:, :, :seen], slope)

        return hook

    def _writes(self, tokens: Tensor) -> Tensor:
        """[batch, columns, writers, d]."""
        found: dict[str, Tensor] = {}
        hooks = [(name, lambda x, hook, name=name: found.__setitem__(name, x)) for name, _ in self.writers]
        with self.bridge.hooks(fwd_hooks=hooks):
            self.bridge(tokens)
        return torch.cat([x if x.dim() == 4 else x[:, :, None] for x in (found[name] for name, _ in self.writers)], 2)

    @contextlib.contextmanager
    def _copies(self) -> Iterator[None]:
        flags = ("use_split_qkv_input", "use_attn_result", "use_hook_mlp_in")
        try:
            for flag in flags:
                getattr(self.bridge, f"set_{flag}")(True)
            yield
        finally:
            for flag in flags:
                getattr(self.bridge, f"set_{flag}")(False)
