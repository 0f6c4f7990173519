"""What reading a token makes a head write: the tokens whose logits the head's value of it raises most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import BadInput
from workbench.patching.direct import HeldNorm, head_writes
from workbench.patching.wiring import wirings


@torch.no_grad()
def promoted_tokens(
    model: Any,
    tokens: Int[Tensor, "b n"],
    words: Int[Tensor, "layers heads w"],
    k: int = 3,
    batch: int = 8,
) -> Int[Tensor, "layers heads w k"]:
    """Ids of the k tokens that each head raises most when it reads each of its `words`, whatever makes it read them.

    The value of a word is its mean over all places of the word in `tokens` (texts without padding), minus the mean over
    all places of all words: what reading this word writes and reading another does not. It goes through W_O, the final
    norm and the unembedding (the OV circuit of Elhage et al. 2021, on the values of a run); later layers and biases are
    left out. Raises BadInput for a word that is not in the texts, Unsupported for blocks that `path_effects` refuses.
    """
    blocks, ids = wirings(model), torch.unique(words)
    if missing := sorted(set(ids.tolist()) - set(tokens.unique().tolist())):
        raise BadInput(f"promoted_tokens: token {missing[0]} is in none of the texts")
    values = _values(model, tokens, ids, batch)
    norm = HeldNorm(model, values.last.expand(words.shape[-1], -1))
    unembed = model.bridge.unembed.original_component.weight
    places = torch.searchsorted(ids, words.to(ids.device).contiguous())
    out = []
    for wiring in blocks:
        z = values.of(wiring.layer, places[wiring.layer], model.n_heads // model.n_kv_heads)
        logits = norm(head_writes(wiring, z.to(unembed.dtype))) @ unembed.mT
        out.append(logits.topk(k, -1).indices)
    return torch.stack(out)


@dataclass
class _Values:
    """Sums of values by layer: over all places of each id (`sums`), over all places (`total`). last: a final residual."""

    counts: Float[Tensor, " ids"]
    places: int = 0
    sums: dict[int, Float[Tensor, "ids g e"]] = field(default_factory=dict)
    total: dict[int, Float[Tensor, "g e"]] = field(default_factory=dict)
    last: Tensor = field(default_factory=lambda: torch.empty(0))

    def of(self, layer: int, words: Int[Tensor, "heads w"], group: int) -> Float[Tensor, "w heads e"]:
        """The mean value of each head's own words, minus that of all places."""
        means = self.sums[layer] / self.counts[:, None, None] - self.total[layer] / self.places
        heads = torch.arange(len(words), device=words.device)[:, None] // group
        return means[words, heads].transpose(0, 1)


def _values(model: Any, tokens: Int[Tensor, "b n"], ids: Int[Tensor, " ids"], batch: int) -> _Values:
    """One forward of all texts, a batch at a time; values are summed as each layer makes them."""
    found = _Values(torch.zeros(len(ids), device=tokens.device, dtype=torch.float32))
    for rows in tokens.split(batch):
        place = torch.searchsorted(ids, rows)
        known = ids[place.clamp_max(len(ids) - 1)] == rows
        place = place[known]
        found.counts += torch.bincount(place, minlength=len(ids))
        found.places += rows.numel()
        with model.bridge.hooks(fwd_hooks=list(_hooks(model, found, known, place))):
            model.forward(rows, keep=slice(rows.shape[1] - 1, rows.shape[1]))
    return found


def _hooks(model: Any, found: _Values, known: Tensor, place: Tensor) -> Iterator[tuple[str, Any]]:
    def add(x: Tensor, hook: Any, layer: int) -> None:
        v = x if x.dim() == 4 else x.unflatten(-1, (model.n_kv_heads, -1))
        sums = found.sums.setdefault(layer, v.new_zeros(len(found.counts), *v.shape[2:], dtype=torch.float32))
        sums.index_add_(0, place, v[known].float())
        found.total[layer] = found.total.get(layer, 0) + v.float().sum((0, 1))

    def end(x: Tensor, hook: Any) -> None:
        found.last = x[:1, -1]

    for layer in range(model.n_layers):
        yield f"blocks.{layer}.attn.hook_v", partial(add, layer=layer)
    yield f"blocks.{model.n_layers - 1}.hook_out", end
