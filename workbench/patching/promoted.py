"""What reading a token makes a head write: the tokens whose logits the head's value of it raises most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.budget import in_parts
from workbench.errors import BadInput
from workbench.footprint import forward_bytes, head_dim, outputs_bytes
from workbench.patching.direct import HeldNorm, head_writes
from workbench.patching.wiring import wirings


@torch.no_grad()
def promoted_tokens(
    model: Any,
    tokens: Int[Tensor, "b n"],
    words: Int[Tensor, "layers heads w"],
    k: int = 3,
    batch: int = 8,
    memory: int | str | None = None,
) -> Int[Tensor, "layers heads w k"]:
    """Ids of the k tokens that each head raises most when it reads each of its `words`, whatever makes it read them.

    The value of a word is its mean over all places of the word in `tokens` (texts without padding), minus the mean over
    all places of all words: what reading this word writes and reading another does not. It goes through W_O, the final
    norm and the unembedding (the OV circuit of Elhage et al. 2021, on the values of a run); later layers and biases are
    left out. batch: texts in one forward at most; memory: see `workbench.budget`. Raises BadInput for a word that is not in
    the texts, TooLarge for a stated memory that does not hold a text, Unsupported for blocks that `path_effects` refuses.
    """
    blocks, ids = wirings(model), torch.unique(words)
    if missing := sorted(set(ids.tolist()) - set(tokens.unique().tolist())):
        raise BadInput(f"promoted_tokens: token {missing[0]} is in none of the texts")
    values = _values(model, tokens, ids, batch, memory)
    norm = HeldNorm(model, values.last.expand(words.shape[-1], -1))
    unembed = model.bridge.unembed.original_component.weight
    places = torch.searchsorted(ids, words.to(ids.device).contiguous())
    out = []
    for wiring in blocks:
        z = values.of(wiring.layer, places[wiring.layer], model.n_heads // model.n_kv_heads)
        out.append(_raised(model, norm(head_writes(wiring, z.to(unembed.dtype))), unembed, k, memory))
    return torch.stack(out)


def _raised(
    model: Any, read: Float[Tensor, "heads w d"], unembed: Float[Tensor, "v d"], k: int, memory: int | str | None
) -> Int[Tensor, "heads w k"]:
    """The k largest logits of what the unembedding reads, as many heads at a time as the memory holds."""
    heads, words, _ = read.shape
    item = read.element_size()

    def some(part: slice) -> Int[Tensor, "heads w k"]:
        return (read[part] @ unembed.mT).topk(k, -1).indices

    each, fixed = 3 * words * len(unembed) * item, 3 * read.numel() * item
    return torch.cat(in_parts(model, "logits of heads", heads, each, some, memory, fixed))


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

    def add(self, other: _Values) -> None:
        """Those of further texts, in place."""
        self.counts += other.counts
        self.places += other.places
        self.last = other.last
        for mine, theirs in ((self.sums, other.sums), (self.total, other.total)):
            for layer, x in theirs.items():
                if layer in mine:
                    mine[layer] += x
                else:
                    mine[layer] = x


def _values(
    model: Any, tokens: Int[Tensor, "b n"], ids: Int[Tensor, " ids"], batch: int, memory: int | str | None
) -> _Values:
    """One forward of all texts, so many at a time; those of a forward that ran out of memory are not counted twice."""
    n = tokens.shape[1]
    found = _Values(torch.zeros(len(ids), device=tokens.device, dtype=torch.float32))
    sums = 4 * model.n_layers * (1 + len(ids)) * model.n_kv_heads * head_dim(model)
    each = forward_bytes(model, n) + outputs_bytes(model, n)

    def some(rows: slice) -> None:
        found.add(_of_texts(model, tokens[rows], ids))

    in_parts(model, "promoted tokens", len(tokens), each, some, memory, 2 * sums, most=batch)
    return found


def _of_texts(model: Any, rows: Int[Tensor, "b n"], ids: Int[Tensor, " ids"]) -> _Values:
    """Of one forward; values are summed as each layer makes them."""
    found = _Values(torch.zeros(len(ids), device=rows.device, dtype=torch.float32))
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
        zeros = v.new_zeros(len(found.counts), *v.shape[2:], dtype=torch.float32)
        found.sums[layer] = zeros.index_add_(0, place, v[known].float())
        found.total[layer] = v.float().sum((0, 1))

    def end(x: Tensor, hook: Any) -> None:
        found.last = x[:1, -1]

    for layer in range(model.n_layers):
        yield f"blocks.{layer}.attn.hook_v", partial(add, layer=layer)
    yield f"blocks.{model.n_layers - 1}.hook_out", end
