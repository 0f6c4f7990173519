"""The prompt, read once: keys, values and last queries of every layer, for all policies that read it alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from workbench_kernels import AttentionSpec, Reductions

from workbench import backends
from workbench.company import refuse_company
from workbench.errors import Unsupported
from workbench.plan import Attention, Plan
from workbench.policies.scheme import OBSERVED, Seen, Slashes, Streams
from workbench.probes.caches import can_roll_back
from workbench.simulation.cases import Batch
from workbench.simulation.slashed import slashed
from workbench.simulation.windowed import Rotary, windowed


@dataclass
class Prompts:
    """What was read, by layer; rows of the batch end at `batch.prefix`.

    received: attention that keys get from all rows, where that was asked. products: (query head, key) products that
    reading took, of each prompt; None: those of plain attention.
    """

    batch: Batch
    keys: dict[int, Float[Tensor, "b g n d"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "b g n d"]] = field(default_factory=dict)
    queries: dict[int, Float[Tensor, "b h r d"]] = field(default_factory=dict)
    scale: dict[int, float] = field(default_factory=dict)
    received: dict[int, list[Float[Tensor, "h n"]]] = field(default_factory=dict)
    products: Float[Tensor, " b"] | None = None
    _seen: dict[tuple[int, int], Seen] = field(default_factory=dict, repr=False)

    def seen(self, layer: int, row: int) -> Seen:
        """One prompt in one layer."""
        if (layer, row) not in self._seen:
            n = int(self.batch.prefix[row])
            keys, values = self.keys[layer][row, :, :n], self.values[layer][row, :, :n]
            received = {i: rows[row] for i, rows in self.received.items()}
            self._seen[layer, row] = Seen(keys, values, self.queries[layer][row], self.scale[layer], received)
        return self._seen[layer, row]

    def before(self, layer: int) -> Float[Tensor, "b h d"]:
        """Queries of the row right before the first token that is decoded."""
        again = (self.batch.prefix - self.batch.start).to(self.queries[layer].device)
        own = self.queries[layer].shape[2] - 1 - again
        return self.queries[layer][torch.arange(len(own), device=own.device), :, own]

    def take(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> None:
        """Keep what a layer was given, up to the longest prefix."""
        end = int(self.batch.prefix.max())
        rows = min(OBSERVED, int(self.batch.prefix.min()))
        last = self.batch.prefix[:, None] - rows + torch.arange(rows, device=q.device)
        self.keys[layer], self.values[layer], self.scale[layer] = k[:, :, :end], v[:, :, :end], spec.scale
        self.queries[layer] = q.gather(2, last[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[-1]))

    def accumulate(self, backend: str, layer: int, q: Tensor, k: Tensor, spec: AttentionSpec) -> None:
        """Keep the attention that keys get from all rows of each prompt."""
        self.received[layer] = []
        for row, n in enumerate(self.batch.prefix.tolist()):
            own_q, own_k = q[row : row + 1, :, :n], k[row : row + 1, :, :n]
            found = backends.statistics(backend, own_q, own_k, own_q, spec, [], Reductions(received=True))
            assert found.received is not None
            rows = torch.arange(n, 0, -1, device=q.device)  # that see each key
            self.received[layer].append(found.received[0] * rows)

    def count(self, layer_products: Sequence[float]) -> None:
        """Add a layer's products of each prompt."""
        own = torch.tensor(layer_products, dtype=torch.float64)
        self.products = own if self.products is None else self.products + own


def suits(model: Any) -> None:
    """Raises Unsupported for a model or a moment that the simulator does not serve."""
    refuse_company(model, "the simulator")
    if not can_roll_back(model):
        raise Unsupported(f"{model.name}: policies of the cache are simulated for full attention in every layer")


@torch.no_grad()
def run(model: Any, tokens: Tensor, attention: Attention, keep: slice, positions: Tensor | None = None) -> Tensor:
    """Logits of the columns `keep`, with every layer's attention computed by a function.

    Raises Unsupported where a layer does not ask for it.
    """
    asked: set[int] = set()

    def counted(layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        if spec.softcap is not None or spec.sink_logits is not None or not spec.causal(q.shape[2]):
            raise Unsupported(f"layer {layer}: soft-capped scores, learned sinks and windows are not simulated")
        asked.add(layer)
        return attention(layer, q, k, v, spec)

    extra = {} if positions is None else {"position_ids": positions}
    wanted = torch.arange(keep.start, keep.stop, device=tokens.device)
    with model.seam.on(Plan(attention=counted)):
        out = model.bridge(tokens, return_type="logits", use_cache=False, logits_to_keep=wanted, **extra)
    if missing := set(model.seam.layers) - asked:
        raise Unsupported(f"layers {sorted(missing)} did not ask the seam for attention")
    return out


def read_whole(model: Any, batch: Batch, accumulate: bool = False) -> tuple[Prompts, list[Float[Tensor, "told v"]]]:
    """One plain forward over prompts and answers: what the prompts leave, and the full cache's logits of what is told.

    accumulate: keep what all rows look at, too.
    """
    prompts = Prompts(batch)

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        prompts.take(layer, q, k, v, spec)
        if accumulate:
            prompts.accumulate(model.backend, layer, q, k, spec)
        return backends.attend(model.backend, q, k, v, spec, [], None)[0]

    ends = [len(c.tokens) - 1 for c in batch.cases]
    first = min(e - c.scored for e, c in zip(ends, batch.cases, strict=True))
    logits = run(model, batch.tokens, attention, slice(first, max(ends)))
    rows = zip(logits, ends, batch.cases, strict=True)
    return prompts, [row[end - c.scored - first : end - first] for row, end, c in rows]


def read_by(model: Any, batch: Batch, by: Streams | Slashes) -> Prompts:
    """The prompts read with streaming heads in their windows, or with every head along its lines."""
    prompts = Prompts(batch)
    lengths = batch.prefix.tolist()
    rotary = Rotary.of(model) if isinstance(by, Streams) and by.renumbered else None

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        prompts.take(layer, q, k, v, spec)
        if isinstance(by, Streams):
            return _in_windows(model.backend, layer, q, k, v, spec, by, rotary, prompts)
        z = torch.zeros_like(q)
        counts = []
        for row, n in enumerate(lengths):
            z[row, :, :n], products = slashed(q[row, :, :n], k[row, :, :n], v[row, :, :n], spec.scale, by)
            counts.append(products)
        prompts.count(counts)
        return z

    end = int(batch.prefix.max())
    run(model, batch.tokens[:, :end], attention, slice(end - 1, end))
    return prompts


def _in_windows(
    backend: str, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, streams: Streams,
    rotary: Rotary | None, prompts: Prompts,
) -> Tensor:  # fmt: skip
    flags, group = streams.heads[layer].to(q.device), q.shape[1] // k.shape[1]
    z, sees = torch.zeros_like(q), torch.zeros(q.shape[2], device=q.device)
    for heads, plain in ((~flags, True), (flags, False)):
        if not bool(heads.any()):
            continue
        mine, some = heads.repeat_interleave(group), (k[:, heads], v[:, heads])
        if plain:
            z[:, mine] = backends.attend(backend, q[:, mine], *some, spec, [], None)[0]
            seen = torch.arange(len(sees)) + 1
        else:
            z[:, mine], seen = windowed(q[:, mine], *some, spec.scale, streams, rotary)
        sees += seen.to(sees) * int(mine.sum())
    prompts.count([float(sees[:n].double().sum()) for n in prompts.batch.prefix.tolist()])
    return z


def told(logits: Tensor, cases: Sequence[Any]) -> list[Float[Tensor, "told v"]]:
    """Of decoded rows, those that tell."""
    return [row[len(c.steps) - c.scored : len(c.steps)] for row, c in zip(logits, cases, strict=True)]
