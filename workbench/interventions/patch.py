"""Put given outputs in the place of the heads' own: activation patching."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import BadInput
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def patch(heads: Iterable[tuple[int, int]], values: Tensor, at: Phase = "both") -> Edit:
    """Outputs (hook_z) of `heads` replaced by `values`, in the order of the list.

    values: [d], the same everywhere; [heads, d]; [heads, columns, d], one per column of the tokens as passed; or
    [batch, heads, columns, d]. Columns without a value, as those of generated tokens, raise BadInput when they come up:
    at="prefill" leaves them alone.
    """
    pairs, held = head_pairs(heads), torch.as_tensor(values).detach()
    shape = tuple(held.shape)
    held = held[None, None, None] if held.dim() == 1 else held[None, :, None] if held.dim() == 2 else held
    held = held[None] if held.dim() == 3 else held
    if held.dim() != 4 or held.shape[1] not in (1, len(pairs)) or not held.is_floating_point() or not held.numel():
        raise BadInput(
            f"values of shape {list(shape)}: give numbers of [d], [{len(pairs)} heads, d], "
            f"[{len(pairs)} heads, columns, d] or [batch, {len(pairs)} heads, columns, d]"
        )
    return Patch(heads=pairs, at=at, values=held.expand(-1, len(pairs), -1, -1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch(Edit):
    """Outputs replaced by given ones."""

    kind: ClassVar[str] = "patch"
    values: Float[Tensor, "b heads columns d"]

    @property
    def by_row(self) -> bool:
        """Whether each batch row has its own."""
        return len(self.values) > 1

    @property
    def by_column(self) -> bool:
        """Whether each column has its own."""
        return self.values.shape[2] > 1

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        if len(self.values) not in (1, sheet.mask.batch):
            raise BadInput(f"values for {len(self.values)} batch rows; there are {sheet.mask.batch}")
        here = [i for i, (layer, _) in enumerate(self.heads) if layer == sheet.layer]
        values = self.values[row if self.by_row else 0][here]
        if values.shape[1] > 1:
            values = self._at(sheet, values)
        sheet.replace(row, self.heads_of(sheet), values)

    def _at(self, sheet: Sheet, values: Tensor) -> Tensor:
        """The columns of this call; those behind the values are only asked for where the edit holds."""
        end, wanted = values.shape[1], sheet.columns.to(values.device)
        last = int(sheet.columns[-1]) - (self.at == "prefill")
        if self.at != "prefill" and last >= end:
            raise BadInput(f"patch has values for {end} columns; the text has come to column {last}: use at='prefill'")
        return values[:, wanted.clamp_max(end - 1)]

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Edit:
        """From its fields as JSON has them."""
        return patch(fields["heads"], torch.tensor(fields["values"]), fields.get("at", "both"))
