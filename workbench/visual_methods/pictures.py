"""Some pictures under one text as a model reads them, and what methods ask of them, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench import images
from workbench.errors import BadInput, Unsupported
from workbench.visual_methods.vision_tower import class_attention

Columns = tuple[int, ...]


class Pictures:
    """A batch of prompts, one picture each, equally long. texts: one for all pictures, or one each.

    sinks: what makes a part of a picture a visual sink, Φ from which it is one and the model's sink dimensions; None: as
    `sinks_to_evidence` has them by default. Raises BadInput where a prompt holds no picture.
    """

    def __init__(
        self,
        model: Any,
        shown: Sequence[Any],
        texts: str | Sequence[str],
        sinks: tuple[float, Sequence[int]] | None = None,
    ) -> None:
        said = [texts] * len(shown) if isinstance(texts, str) else list(texts)
        self.model, self.sinks = model, sinks
        made = images.prompt(model, said, list(shown))
        self.tokens: Int[Tensor, "b n"] = made.tokens
        self.inputs = made.inputs
        self.inside: Bool[Tensor, "b n"] = images.positions(model, made.tokens)
        if not bool(self.inside.any(1).all()):
            raise BadInput(f"{model.name}: a prompt without a placeholder for its picture")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def parts(self) -> tuple[Columns, ...]:
        """Columns of the picture, row by row."""
        return tuple(tuple(row.nonzero().flatten().tolist()) for row in self.inside)

    @cached_property
    def picture(self) -> Any:
        """The same as edits take it: a tuple where all rows agree, else a list with an entry a row."""
        return self.parts[0] if len(set(self.parts)) == 1 else list(self.parts)

    @cached_property
    def behind(self) -> Any:
        """Columns of the text behind the picture, as edits take them. Raises BadInput where there is none."""
        n = self.tokens.shape[1]
        rows = [tuple(range(max(columns) + 1, n)) for columns in self.parts]
        if not all(rows):
            raise BadInput("no text stands behind the picture: put the instruction there")
        return rows[0] if len(set(rows)) == 1 else rows

    @cached_property
    def without(self) -> Int[Tensor, "b m"]:
        """The prompts without their pictures' columns. Raises Unsupported where they are not equally many."""
        if len({len(columns) for columns in self.parts}) > 1:
            raise Unsupported("pictures of several sizes in one batch: show them one by one")
        return self.tokens[~self.inside].view(len(self), -1)

    @cached_property
    def blind(self) -> Float[Tensor, "layers b heads d"]:
        """Head outputs (hook_z) at the last token of the prompts without pictures."""
        kept: list[Tensor] = []
        texts, row = torch.unique(self.without, dim=0, return_inverse=True)
        hooks = [(f"blocks.{i}.attn.hook_z", lambda z, hook: kept.append(z[:, -1])) for i in range(self.model.n_layers)]
        with torch.no_grad(), self.model.bridge.hooks(fwd_hooks=hooks):
            self.model.forward(texts)
        return torch.stack(kept)[:, row]

    @cached_property
    def class_attention(self) -> list[Float[Tensor, "b parts"]]:
        """Attention of the vision tower's class token, a layer an entry (see `vision_tower.class_attention`)."""
        return class_attention(self.model, self.inputs)
