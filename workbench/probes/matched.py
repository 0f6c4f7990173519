"""Mass on keys that match the query: earlier copies of its token, what followed them, or any labels of one's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from workbench_kernels import Reductions
from workbench_kernels.types import Matches

from workbench.errors import BadInput
from workbench.masks import CompactMask
from workbench.probes.probe import Probe

NOBODY = -1
"""Label of a key that matches no query."""
NOTHING = -2
"""Label of a query that matches no key."""


def matched(
    queries: Int[Tensor, "b n"], keys: Int[Tensor, "b l n"], least: Sequence[float] | None = None, name: str = "matched"
) -> Probe:
    """Mass of each row on the keys at or before it whose label is the query's, [layers, batch, heads, queries, lists].

    queries, keys: labels of the columns of the tokens as passed; several lists of key labels at once. least: of each
    list, the weight below which a key counts as nothing. See `token_labels`. Raises BadInput where lists do not fit.
    """
    limits = tuple(least or (0.0,) * keys.shape[1])
    if keys.dim() != 3 or len(limits) != keys.shape[1] or keys[:, 0].shape != queries.shape:
        raise BadInput(f"{name}: labels of queries are [b, n], of keys [b, lists, n], and there is one `least` a list")

    def ask(mask: CompactMask) -> Reductions:
        stop, end = mask.q_offset + mask.queries, mask.kv_offset + mask.keys
        if stop > queries.shape[1] or end > keys.shape[2]:
            raise BadInput(f"{name}: labels of {queries.shape[1]} columns for a text of {max(stop, end)}")
        return Reductions(
            matches=Matches(mask.own(queries)[:, mask.q_offset : stop], mask.own(keys)[..., mask.kv_offset : end], limits)
        )  # fmt: skip

    return Probe(
        name, asks=ask, reads=lambda s, mask: {"": s.matched}, joins=3, no_grad="labels have none", parts=True,  # pyright: ignore
    )  # fmt: skip


def token_labels(
    tokens: Int[Tensor, "b n"], valid: Bool[Tensor, "b n"] | None = None
) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b 2 n"]]:
    """Labels for `matched`: a query's token, and of a key its own token (list 0) and the one before it (list 1).

    List 0 is attention to copies of the token, itself included; list 1 to what followed its earlier copies: induction.
    valid: False on padding, which matches nothing.
    """
    valid = torch.ones_like(tokens, dtype=torch.bool) if valid is None else valid.to(tokens.device)
    before = torch.nn.functional.pad(tokens[:, :-1], (1, 0), value=NOBODY)
    follows = valid & torch.nn.functional.pad(valid[:, :-1], (1, 0))
    own = torch.where(valid, tokens, NOBODY)
    return torch.where(valid, tokens, NOTHING), torch.stack([own, torch.where(follows, before, NOBODY)], 1)
