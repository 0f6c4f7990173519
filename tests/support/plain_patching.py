"""Path patching by its definition: hooks on the plain TransformerLens bridge, whole forwards for every sender."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_models
import torch
from torch import Tensor

import workbench as wb

Change = Callable[[Tensor], Tensor]
KINDS = ("gpt2", "gpt_neox", "llama", "gemma2")
B, N, CHANGED = 3, 11, (2, 6, 10)  # rows, columns, and the columns in which clean and corrupted prompts differ
LEFT = torch.tensor([[0, 0, *[1] * 9], [1] * 11, [0, *[1] * 10]]).bool()
RIGHT = torch.tensor([[1] * 11, [*[1] * 9, 0, 0], [*[1] * 10, 0]]).bool()


def prompts(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Clean and corrupted ids, and the answers."""
    random = torch.Generator().manual_seed(seed)
    clean = torch.randint(3, 97, (B, N), generator=random)
    corrupted = clean.clone()
    corrupted[:, list(CHANGED)] = torch.randint(3, 97, (B, len(CHANGED)), generator=random)
    return clean, corrupted, torch.stack([torch.randperm(94, generator=random)[:2] + 3 for _ in range(B)])


def exact_model(kind: str, folder: Path, seed: int = 0) -> Any:
    """A tiny random model whose every operation is in float64, norms and the plain bridge's softmax included."""
    model = wb.load(tiny_models.save(kind, folder, seed), dtype=torch.float64)
    for module in model.bridge.original_model.modules():
        if "RMSNorm" in type(module).__name__ and hasattr(module, "weight"):
            module.forward = _rms_norm(module, offset=kind.startswith("gemma"))
    for attention in model.seam.layers.values():  # RoPE bridges cast to float32, where float64's mask is minus infinity
        object.__setattr__(attention, "_masked_softmax", lambda scores, dtype=None: scores.softmax(-1))
    return model


def _rms_norm(module: Any, offset: bool) -> Any:
    """The norm without Hugging Face's cast to float32."""
    eps: float = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps

    def forward(x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * (module.weight + offset)

    return forward


class Plain:
    """The clean and the corrupted run of a batch; senders are patched each in its own copy of the batch."""

    def __init__(self, model: Any, clean: Tensor, corrupted: Tensor, answers: Tensor, mask: Tensor | None = None):
        self.bridge, self.n_layers, self.clean, self.answers = model.bridge, model.n_layers, clean, answers
        self.mask = None if mask is None else mask.long()
        text = torch.ones_like(clean) if mask is None else mask
        self.ends = torch.tensor([int(row.nonzero()[-1]) for row in text])
        self.cache, self.other = self._cache(clean), self._cache(corrupted)
        self.base = self._difference({}, 1)[0]

    def effects(self, senders: list[tuple], receivers: Any, columns: Tensor, frozen: bool) -> Tensor:
        """Changes of the logit difference, [senders, batch]. senders: ("head", layer, head), ("mlp", layer), ("embed",).

        Pass C freezes every head (and MLP) and reads the receivers; pass D puts what they got into a clean run.
        """
        stored: dict[str, Tensor] = {}
        hooks: dict[str, list[Change]] = {}
        for name in () if receivers == "logits" else dict.fromkeys(map(_reads, receivers)):
            hooks.setdefault(name, []).append(lambda x, name=name: stored.setdefault(name, x.clone()))
        for layer in range(self.n_layers):
            for name in (f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_mlp_out")[: 1 + frozen]:
                hooks.setdefault(name, []).append(lambda x, name=name: self._many(self.cache[name], len(senders)))
        for i, sender in enumerate(senders):
            hooks.setdefault(_sends(sender), []).append(self._send(i, sender, columns))
        changed = self._difference(hooks, len(senders))
        if receivers != "logits":
            patches: dict[str, list[Change]] = {}
            for one in receivers:
                put = self._put(stored[_reads(one)], one, columns.repeat(len(senders)))
                patches.setdefault(_reads(one), []).append(put)
            changed = self._difference(patches, len(senders))
        return changed - self.base

    def patched(self, name: str, where: Tensor, head: int | None, strength: float = 1.0) -> Tensor:
        """The difference of the clean run with (a part of) a corrupted activation in the columns of a mask, [batch]."""
        change = strength * (self.other[name] - self.cache[name])
        mask = where.view(*where.shape, *[1] * (change.dim() - 2)).to(change.dtype)
        if head is not None:
            mask = mask * torch.nn.functional.one_hot(torch.tensor(head), change.shape[2])[:, None]
        return self._difference({name: [lambda x: x + mask * change]}, 1)[0]

    def _send(self, i: int, sender: tuple, columns: Tensor) -> Change:
        """The corrupted activation in the i-th copy of the batch."""
        other, batch = self.other[_sends(sender)], torch.arange(len(self.clean))

        def change(x: Tensor) -> Tensor:
            x, rows = x.clone(), batch + i * len(batch)
            if sender[0] == "head":
                x[rows, columns, sender[2]] = other[batch, columns, sender[2]]
            else:
                x[rows, columns] = other[batch, columns]
            return x

        return change

    def _put(self, stored: Tensor, receiver: tuple, columns: Tensor) -> Change:
        def change(x: Tensor) -> Tensor:
            x, rows = x.clone(), torch.arange(len(x))
            if receiver[0] == "mlp":
                x[rows, columns] = stored[rows, columns]
            else:
                x[rows, columns, receiver[2]] = stored[rows, columns, receiver[2]]
            return x

        return change

    def _difference(self, hooks: dict[str, list[Change]], copies: int) -> Tensor:
        with torch.no_grad(), self.bridge.hooks(fwd_hooks=[(name, _chained(all_)) for name, all_ in hooks.items()]):
            logits = self.bridge(self._many(self.clean, copies), return_type="logits", **self._extra(copies))
        last = logits.unflatten(0, (copies, -1))[:, torch.arange(len(self.clean)), self.ends]
        first, foil = self.answers.T
        rows = torch.arange(len(self.clean))
        return last[:, rows, first] - last[:, rows, foil]

    def _cache(self, tokens: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        names = [
            f"blocks.{i}.{n}" for i in range(self.n_layers) for n in ("attn.hook_z", "hook_mlp_out", "hook_resid_pre")
        ]
        hooks = [(name, lambda x, hook, name=name: found.__setitem__(name, x.clone())) for name in names]
        with torch.no_grad(), self.bridge.hooks(fwd_hooks=hooks):
            self.bridge(tokens, return_type="logits", **self._extra(1))
        return found

    def _extra(self, copies: int) -> dict[str, Tensor]:
        return {} if self.mask is None else {"attention_mask": self._many(self.mask, copies)}

    def _many(self, x: Tensor, copies: int) -> Tensor:
        return x.repeat(copies, *[1] * (x.dim() - 1))


def _sends(sender: tuple) -> str:
    where = {"head": "attn.hook_z", "mlp": "hook_mlp_out", "embed": "hook_resid_pre"}[sender[0]]
    return f"blocks.{sender[1] if len(sender) > 1 else 0}.{where}"


def _reads(receiver: tuple) -> str:
    return f"blocks.{receiver[1]}." + ("hook_mlp_out" if receiver[0] == "mlp" else f"attn.hook_{receiver[0]}")


def _chained(changes: list[Change]) -> Any:
    """One hook that makes the changes in their order."""

    def hook(x: Tensor, hook: Any) -> Tensor:
        for change in changes:
            x = change(x)
        return x

    return hook
