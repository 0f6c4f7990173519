"""Keys and values of past tokens: which caches can be cut, copies of a part, many made one left-padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from workbench.interventions.edit import edits_in
from workbench.interventions.memory import joint, recall, remember


def can_roll_back(model: Any) -> bool:
    """Whether a cache can be cut at any position and gives what a text of that length gives.

    No sliding windows, no recurrent layers, and no edit that finds its keys: it would have found them in another text.
    """
    if any(edit.finder is not None for item in model.edits for edit in edits_in(item)):
        return False
    windowed = getattr(model.config, "sliding_window", None) and getattr(model.config, "use_sliding_window", True)
    return _kinds(model) == {"full_attention"} and not windowed and len(model.seam.layers) == model.n_layers


def can_pad(model: Any) -> bool:
    """Whether rows of a left-padded batch give what they give alone.

    Not where positions are the model's own affair, where padding reaches a recurrent state or a chunk's border, nor
    under interventions: resample ablation goes by columns.
    """
    from transformer_lens.utilities.position_ids import accepts_mask_derived_position_ids

    attention = _kinds(model) <= {"full_attention", "sliding_attention"} and len(model.seam.layers) == model.n_layers
    return attention and not model.edits and accepts_mask_derived_position_ids(model.bridge.original_model)


def _kinds(model: Any) -> set[str]:
    return set(getattr(model.config, "layer_types", None) or ["full_attention"])


def copy_cache(model: Any, cache: Any, length: int) -> Any:
    """A new cache that holds the first `length` positions of another."""
    out = DynamicCache(config=model.config)
    for i, layer in enumerate(cache.layers):
        out.update(layer.keys[:, :, :length], layer.values[:, :, :length], i)
    remember(out, recall(cache, length).cut(length))
    return out


def keep_rows(cache: Any, index: Int[Tensor, " rows"]) -> None:
    """Go on with some rows of the batch, or with rows in another order."""
    memory = recall(cache, cache.get_seq_length())
    cache.reorder_cache(index)
    remember(cache, memory.of_rows(index))


class _Roomy(DynamicLayer):
    """Writes new tokens into room kept for them; Hugging Face's layer copies its whole past at every token."""

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._set(keys, values, length)

    def _set(self, keys: Tensor, values: Tensor, length: int) -> None:
        self._room = keys, values
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append, and give the past with it."""
        start = self.get_seq_length()
        stop = start + key_states.shape[2]
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, start:stop] = new
        self._set(*self._room, stop)
        return self._room[0][:, :, :stop], self._room[1][:, :, :stop]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep some rows of the batch."""
        keys, values = (x.index_select(0, beam_idx.to(x.device)) for x in self._room)
        self._set(keys, values, self.get_seq_length())


def merge_caches(model: Any, caches: Sequence[Any], lengths: Sequence[int], room: int) -> Any:
    """One left-padded batch of the first `lengths[i]` positions of each cache of one row, with room for more tokens.

    The given caches are emptied layer by layer, so that nothing but one layer exists twice.
    """
    out, width = DynamicCache(config=model.config), max(lengths)
    memory = joint([recall(c, c.get_seq_length()) for c in caches], lengths)
    for i in range(len(caches[0].layers)):
        both = []
        for name in ("keys", "values"):
            parts = [getattr(c.layers[i], name)[0, :, :n] for c, n in zip(caches, lengths, strict=True)]
            joined = parts[0].new_zeros(len(parts), parts[0].shape[0], width + room, parts[0].shape[-1])
            for row, part in zip(joined, parts, strict=True):
                row[:, width - part.shape[1] : width] = part
            both.append(joined)
        for cache in caches:
            cache.layers[i].keys = cache.layers[i].values = None
        out.layers[i : i + 1] = [_Roomy(both[0], both[1], width)]
    remember(out, memory)
    return out


def bytes_per_token(cache: Any) -> float:
    """Keys and values of one token in one row, all layers; recurrent states are not counted."""
    tensors = (getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values"))
    held = [x for x in tensors if isinstance(x, Tensor) and x.numel()]
    return sum(x.numel() * x.element_size() / (x.shape[0] * x.shape[2]) for x in held)
