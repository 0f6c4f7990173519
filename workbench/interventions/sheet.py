"""The sheet of one layer: what all edits together change in its heads, row by row, until it becomes one `HeadEdits`."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from workbench_kernels import HeadEdits

from workbench.errors import BadInput, EditConflict
from workbench.interventions.class_table import ClassTable
from workbench.interventions.edit import Rule
from workbench.interventions.memory import Memory
from workbench.interventions.row_table import RowTable
from workbench.masks import CompactMask
from workbench.positions import lengths


class Sheet:
    """rows: one if all batch rows are edited alike. Raises EditConflict, naming the head, where edits cannot both hold."""

    def __init__(self, model: Any, layer: int, rows: int, mask: CompactMask, memory: Memory) -> None:
        self.model, self.layer, self.rows, self.mask, self.heads = model, layer, rows, mask, int(model.n_heads)
        self.columns = torch.arange(mask.queries, device=mask.device) + mask.q_offset
        first, end = lengths(mask)
        self.first, self.end = first.tolist(), end.tolist()
        shape, device = (rows, self.heads), mask.device
        self._gain, self._window = torch.ones(shape), torch.zeros(shape, dtype=torch.long)
        self._uniform, self._replace = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
        self._values: list[tuple[int, list[int], Tensor]] = []
        self._sinks: set[int] = set()
        self._device, self._found = device, memory.found
        self.classes, self.patterns = ClassTable(self), RowTable(self)

    def name(self, head: int) -> str:
        """How users call a head."""
        return f"L{self.layer}H{head}"

    def scale(self, row: int, heads: list[int], gain: float) -> None:
        """Multiply the output; gains of one head multiply."""
        self._gain[row, heads] *= gain

    def attend_evenly(self, row: int, heads: list[int]) -> None:
        """Even attention."""
        self._once(self._uniform, row, heads, True, "uniform")

    def narrow(self, row: int, heads: list[int], sink: int, recent: int) -> None:
        """See the first `sink` tokens and the last `recent` ones only."""
        self._once(self._window, row, heads, recent, "window")
        self._sinks.add(sink)
        if heads and len(self._sinks) > 1:
            raise EditConflict(
                f"{self.name(heads[0])}: windows with different sinks ({sorted(self._sinks)}) in one layer"
            )

    def replace(self, row: int, heads: list[int], values: Float[Tensor, "heads #q d"]) -> None:
        """Put given outputs in the place of the heads' own, one for all columns of this forward or one a column."""
        self._once(self._replace, row, heads, True, "replace")
        width = int(self.model.bridge.cfg.d_head)
        if values.shape[-1] != width:
            raise BadInput(f"{self.name(heads[0])}: values of {values.shape[-1]} numbers; its output has {width}")
        self._values.append((row, heads, values))

    def first_column(self, row: int) -> int:
        """Of the first valid token of a row."""
        return self.first[row if self.rows > 1 else 0]

    def end_column(self, row: int) -> int:
        """After the last valid token of a row so far."""
        return self.end[row if self.rows > 1 else 0]

    def found(self, row: int, head: int, rule: Rule) -> tuple[int, ...]:
        """Columns of the keys that a rule found in a head."""
        return tuple(self._found[self.layer, head, rule][row].nonzero().flatten().tolist())

    def _once(self, target: Tensor, row: int, heads: list[int], value: Any, what: str) -> None:
        for head in heads:
            if target[row, head] != 0:
                raise EditConflict(f"{self.name(head)}: two {what} edits of one head")
            target[row, head] = value

    def finish(self) -> HeadEdits:
        """What the kernels take, of the whole text's keys; `queries` are the caller's."""
        device = self._device
        return HeadEdits(
            gain=self._gain.to(device) if bool((self._gain != 1).any()) else None,
            uniform=self._uniform.to(device) if bool(self._uniform.any()) else None,
            window=self._window.to(device) if bool(self._window.any()) else None,
            sink=min(self._sinks, default=4),
            replace=self._replace.to(device) if self._values else None,
            replacement=self._replacement() if self._values else None,
            rows=self.patterns.finish(device),
            **self.classes.finish(device),
        )

    def _replacement(self) -> Float[Tensor, "rows heads q d"]:
        width = max(v.shape[1] for *_, v in self._values)
        example = self._values[0][2]
        out = torch.zeros(self.rows, self.heads, width, example.shape[-1], dtype=example.dtype, device=self._device)
        for row, heads, values in self._values:
            out[row, heads] = values.to(out).expand(-1, width, -1)
        return out
