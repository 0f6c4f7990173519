"""What a simulation kept and read: counted from the masks that attention used, never from a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.policies.scheme import Kept
from workbench.simulation.cases import Batch
from workbench.simulation.compact import Bucket

PAGE = 16
"""Tokens of a page: what a paged cache rounds every head up to."""


@dataclass
class Tally:
    """Sums over layers, of each prompt and step: entries kept, entries read, (query head, key) products.

    prompt: entries of each layer when the prompt has been read, [b]. pages: entries kept, each cache rounded up to whole
    pages. A cache of a query head counts as much as one of a key-value head. prefill: products that reading the prompts took,
    None: those of plain attention. seconds: of attention over what is kept, once it is packed (of
    the processor, where it computes).
    """

    batch: Batch
    kept: Float[Tensor, "b t"]
    paged: Float[Tensor, "b t"]
    reads: Float[Tensor, "b t"]
    products: Float[Tensor, "b t"]
    prompt: dict[int, Float[Tensor, " b"]] = field(default_factory=dict)
    prefill: Float[Tensor, " b"] | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, batch: Batch) -> Tally:
        """Nothing yet."""
        kept, paged, reads, products = (torch.zeros(batch.steps.shape, dtype=torch.float64) for _ in range(4))
        return cls(batch, kept, paged, reads, products)

    def hold(self, layer: int, kept: Sequence[Kept]) -> None:
        """What a layer holds when the prompt has been read."""
        summaries = [0.0 if k.summary is None else float((k.summary.weight > 0).sum()) for k in kept]
        held = [float(k.held().sum()) for k in kept]
        self.prompt[layer] = torch.tensor(held, dtype=torch.float64) + torch.tensor(summaries, dtype=torch.float64)

    def read(
        self, bucket: Bucket, seen: Bool[Tensor, "p t m"], read: Bool[Tensor, "p r t m"] | None, own: Bool[Tensor, "p t t"],
        heads: int,
    ) -> None:  # fmt: skip
        """What the pairs of a bucket hold and read at each step; an entry that several query heads read is read once.

        read: None where all `heads` query heads of a pair read all that is seen.
        """
        new = own.sum(-1)
        held = seen.sum(-1) + new
        looked = held if read is None else read.any(1).sum(-1) + new
        products = heads * (held if read is None else new) + (0 if read is None else read.sum((1, 3)))
        pages = (held + PAGE - 1) // PAGE * PAGE
        rows = bucket.rows.cpu()
        for total, part in ((self.kept, held), (self.paged, pages), (self.reads, looked), (self.products, products)):
            total.index_add_(0, rows, part.double().cpu())
