"""What the edits of a text have found in it and been made into: lives with the text's KV cache, and is copied with it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

if TYPE_CHECKING:
    from workbench_kernels import HeadEdits

    from workbench.interventions.edit import Edit

HOME = "_workbench_memory"
"""The attribute of a Hugging Face cache that holds it."""
Rows = tuple[tuple["Edit", ...], ...]


class Memory:
    """found: keys by (layer, head, rule), as flags of the text's columns, [batch, columns]; later columns are none.

    sheets: compiled edits by (layer, phase), good for the edits `made_of`; they are made again where this is copied.
    """

    def __init__(self, found: dict[tuple[int, int, Hashable], Bool[Tensor, "b n"]] | None = None, end: int = 0) -> None:
        self.found, self.end = found or {}, end
        self.made_of: tuple[Rows, list[int]] | None = None
        self.sheets: dict[tuple[int, str], HeadEdits] = {}

    def __deepcopy__(self, memo: Any) -> Memory:
        """For copies of the cache that holds it."""
        return Memory({k: v.clone() for k, v in self.found.items()}, self.end)

    def cut(self, length: int) -> Memory:
        """Of the first columns."""
        return Memory({k: v[:, :length] for k, v in self.found.items()}, min(self.end, length))

    def of_rows(self, index: Int[Tensor, " rows"]) -> Memory:
        """Of some rows of the batch."""
        return Memory({k: v[index.to(v.device)] for k, v in self.found.items()}, self.end)


def joint(memories: Sequence[Memory], lengths: Sequence[int]) -> Memory:
    """Of the first columns of one-row texts that are made one left-padded batch; what not all have found is left out."""
    width = max(lengths)
    known = set.intersection(*(set(m.found) for m in memories)) if memories else set()

    def row(memory: Memory, key: Any, length: int) -> Tensor:
        flags = memory.found[key][:, :length]
        return F.pad(flags, (width - length, length - flags.shape[1]))

    pairs = list(zip(memories, lengths, strict=True))
    return Memory({key: torch.cat([row(m, key, n) for m, n in pairs]) for key in known}, width)


def recall(cache: Any, past: int) -> Memory:
    """The memory of a text of which `past` columns are cached; a new one where there is none. Cut with the cache."""
    held = getattr(cache, HOME, None) if past else None
    if held is None:
        return Memory()
    return held.cut(past) if past < held.end else held


def remember(cache: Any, memory: Memory) -> None:
    """Leave it with the cache."""
    if cache is not None and (memory.found or memory.sheets):
        object.__setattr__(cache, HOME, memory)
