"""Two runs that are compared: a batch of clean and of corrupted prompts, and the answers whose logits are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.company import refuse_company
from workbench.errors import BadInput
from workbench.models import Model, load
from workbench.offloading import refuse_offloaded
from workbench.patching.columns import At, column_of, last, text_mask
from workbench.patching.readout import check_answers


@dataclass(frozen=True)
class Pair:
    """Checked and on the model's device. text: which columns are text. ends: the last of them in each row."""

    model: Model
    clean: Int[Tensor, "b n"]
    corrupted: Int[Tensor, "b n"]
    answers: Int[Tensor, "b 2"]
    attention_mask: Tensor | None
    text: Bool[Tensor, "b n"]
    ends: Int[Tensor, " b"]

    @classmethod
    def of(cls, model: Any, clean: Tensor, corrupted: Tensor, answers: Tensor, attention_mask: Tensor | None) -> Pair:
        """Raises BadInput for prompts or answers that do not fit together, Unsupported for a model with company."""
        model = load(model)
        clean, corrupted, answers = (x.to(model.device) for x in (clean, corrupted, answers))
        if clean.shape != corrupted.shape or clean.dim() != 2:
            shapes = f"clean {list(clean.shape)}, corrupted {list(corrupted.shape)}"
            raise BadInput(f"{shapes}: give two [batch, seq] of one size")
        if len(answers) != len(clean):
            raise BadInput(f"{len(answers)} rows of answers for {len(clean)} prompts: give one row each")
        refuse_company(model)
        refuse_offloaded(model, "patching")
        text = text_mask(clean, attention_mask)
        mask = None if attention_mask is None else text
        ids = check_answers(answers, model.bridge.unembed.original_component.weight.shape[0])
        return cls(model, clean, corrupted, ids, mask, text, last(text))

    def part(self, rows: slice | Tensor) -> Pair:
        """Some of the prompts."""
        mask = None if self.attention_mask is None else self.attention_mask[rows]
        cut = {name: getattr(self, name)[rows] for name in ("clean", "corrupted", "answers", "text", "ends")}
        return replace(self, attention_mask=mask, **cut)

    def where(self, at: At | None) -> Bool[Tensor, "b n"]:
        """The columns that `at` means: one in each row, or all of the text."""
        if at is None:
            return self.text
        return torch.nn.functional.one_hot(column_of(at, self.text), self.text.shape[1]).bool()
