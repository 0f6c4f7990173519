"""When a key is an attention sink: the rules of the literature and the corrected one, for reports and for calibration.

received: α, mean attention of the valid queries that see a key. even: the α of an even head under the same mask (see
`workbench.probes.even`). n: valid tokens of each batch row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.looking import Seen
from workbench.option_values import SINK_RULES, one_of
from workbench.probes.even import even, even_columns
from workbench.probes.held import held, held_share
from workbench.probes.received import received

LEAST_QUERIES = 32
SHARE_OF_TEXT = 8
HELD = 0.5


@dataclass(frozen=True)
class SinkRule:
    """How sinks are found. name: "corrected", or "paper" (α > a/N; Yu et al. 2024, arXiv 2406.15765).

    absolute: instead, α above this number (the authors' code). exempt: tokens that are no sinks, counted from each row's
    first valid one. Raises BadInput for a rule that is neither.
    """

    name: str = "corrected"
    a: float = 5.0
    absolute: float | None = None
    exempt: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        one_of("rule", self.name, SINK_RULES)

    @property
    def looks_at_rows(self) -> bool:
        """Whether a candidate is a sink only if most queries hold it."""
        return self.name == "corrected" and self.absolute is None

    def candidates(
        self,
        alpha: Float[Tensor, "*l b h k"],
        even: Float[Tensor, "*l b k"],
        queries: Float[Tensor, "*l b k"],
        n: Int[Tensor, " b"],
        first: Int[Tensor, " b"],
    ) -> Bool[Tensor, "*l b h k"]:
        """Keys that the rule names, exempt ones left out; under the corrected rule `held_by_most` decides of them.

        Corrected: a key with n_k ≥ max(32, N/8) valid queries, α > a·u with u of an even head, and a column sum that
        exceeds what the mask explains by more than one query's worth: n_k·α > 1 + n_k·u. Of any head that looks at its
        last w keys, or at a fixed distance, a column sums to at most one; without this condition windows of N/8 to N/5
        would be sinks. first: column of each row's first valid token.
        """
        place = torch.arange(alpha.shape[-1], device=alpha.device) - first.to(alpha.device)[:, None]
        spared = torch.isin(place, torch.tensor(self.exempt, device=alpha.device, dtype=place.dtype)) | (place < 0)
        n = n.to(alpha.device)[:, None]
        if self.absolute is not None:
            found = alpha > self.absolute
        elif self.name == "paper":
            found = alpha > self.a / n[..., None]
        else:
            enough = queries >= (n / SHARE_OF_TEXT).clamp_min(LEAST_QUERIES)
            level = (self.a * even).maximum(even + 1 / queries.clamp_min(1))
            found = enough[..., None, :] & (alpha > level[..., None, :])
        return found & ~spared[:, None]

    def __call__(self, seen: Seen) -> Bool[Tensor, "b h k"]:
        """Sinks of some heads in the middle of a forward."""
        text = seen.mask.padding
        assert text is not None
        even, queries = even_columns(seen.mask)
        alpha, first = seen.received(), text.int().argmax(-1)
        found = self.candidates(alpha, even.to(alpha), queries, text.sum(-1), first) & text[:, None]
        if not self.looks_at_rows or not bool(found.any()):
            return found
        keys = torch.tensor(_columns(found[None], first), device=alpha.device)
        return found & _where(held_by_most(held_share(seen.paid(keys), keys, seen.mask)), keys, found)


def held_by_most(share: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Of the queries that see a candidate, at least half must give it more than an even head would."""
    return share >= HELD


@torch.no_grad()
def prompt_sinks(model: Any, prompts: Sequence[Sequence[int]], rule: SinkRule) -> Bool[Tensor, "layers b heads keys"]:
    """Sinks of prompts as the model reads them, without edits; columns are of the prompts left-padded to one length.

    Layers without softmax attention have none.
    """
    import workbench as wb

    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=model.device)
    first = torch.tensor([width - len(p) for p in prompts])
    mask = torch.arange(width, device=model.device) >= first.to(model.device)[:, None]
    found = wb.observe(model, tokens, [received(), even()], mask)
    share = found["even"]
    sinks = rule.candidates(
        found["received"], share.received.to(found["received"]), share.queries, width - first, first
    )
    if not rule.looks_at_rows or not bool(sinks.any()):
        return sinks
    columns = _columns(sinks, first)
    at = wb.observe(model, tokens, [held(columns)], mask)["held"]
    return sinks & _where(held_by_most(at), torch.tensor(columns, device=sinks.device), sinks)


def _where(flags: Bool[Tensor, "*l b h s"], keys: Int[Tensor, "b s"], like: Bool[Tensor, "*l b h k"]) -> Tensor:
    """Flags of some keys as flags of all; no key that is named twice is flagged both ways."""
    index = keys[:, None].expand(*flags.shape)
    return torch.zeros_like(like).scatter(-1, index, flags)


def _columns(sinks: Bool[Tensor, "layers b heads keys"], first: Int[Tensor, " b"]) -> list[list[int]]:
    """Candidate columns of each row, as many for each: the first valid token's stands in where there are fewer."""
    rows = [row.nonzero().flatten().tolist() for row in sinks.any(0).any(1)]
    most = max(map(len, rows))
    return [row + [int(first[i])] * (most - len(row)) for i, row in enumerate(rows)]
