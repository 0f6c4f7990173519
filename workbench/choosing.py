"""Which choice a model would take: the log-probability of each after its prompt, many prompts in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.tasks.choices import ChoiceSample


@dataclass(frozen=True)
class ChoiceRows:
    """Samples as left-padded rows: one where every choice is one token, one a choice where not.

    decode_from: the column of each prompt's last token. kept: columns whose logits say something of the choices.
    picks: for every token of every choice its row, its column within kept, its id, and the choice that it counts for,
    numbered through all samples. lengths: tokens of each choice. owner: the sample of each row. first: the column of
    each row's first token.
    """

    tokens: Int[Tensor, "rows n"]
    mask: Bool[Tensor, "rows n"] | None
    decode_from: list[int]
    kept: slice
    picks: Int[Tensor, "picks 4"]
    lengths: Int[Tensor, "samples choices"]
    answers: Int[Tensor, " samples"]
    owner: Int[Tensor, " rows"]
    first: Int[Tensor, " rows"]
    names: tuple[str, ...]

    def of(self, sample: ChoiceSample) -> Int[Tensor, " some"]:
        """The rows of a sample."""
        return (self.owner == self.names.index(sample.name)).nonzero().flatten()

    def to(self, device: torch.device) -> ChoiceRows:
        """The same on a device."""
        moved = {k: v.to(device) for k, v in self.__dict__.items() if isinstance(v, Tensor)}
        return ChoiceRows(**{**self.__dict__, **moved})


def choice_rows(samples: Sequence[ChoiceSample], width: int | None = None) -> ChoiceRows:
    """Rows of samples; those with fewer choices than others have choices of length 0, which score −inf.

    width: pad to so many columns at least, so that batches of some samples have the columns of all.
    """
    rows: list[tuple[int, ...]] = []
    owner, starts, picks = [], [], []
    most = max(len(s.choices) for s in samples)
    lengths = torch.zeros(len(samples), most, dtype=torch.long)
    for i, sample in enumerate(samples):
        alone = all(len(c) == 1 for c in sample.choices)
        for j, choice in enumerate(sample.choices):
            lengths[i, j] = len(choice)
            if not alone or j == 0:
                rows.append((*sample.prompt, *choice[:-1]))
                owner.append(i)
                starts.append(len(choice))
            picks += [(len(rows) - 1, step - len(choice), token, i * most + j) for step, token in enumerate(choice)]
    n, deep = max([width or 0, *map(len, rows)]), max(starts)
    tokens = torch.tensor([[0] * (n - len(r)) + list(r) for r in rows])
    pads = torch.tensor([n - len(r) for r in rows])
    table = torch.tensor(picks)
    table[:, 1] += deep
    return ChoiceRows(
        tokens, torch.arange(n) >= pads[:, None] if bool(pads.any()) else None, [n - s for s in starts],
        slice(n - deep, n), table, lengths, torch.tensor([s.answer for s in samples]), torch.tensor(owner), pads,
        tuple(s.name for s in samples),
    )  # fmt: skip


def log_probs(
    logits: Float[Tensor, "rows kept vocabulary"], rows: ChoiceRows, per_token: bool = False
) -> Float[Tensor, "samples choices"]:
    """Log-probability of each choice in float32; per_token: divided by its length."""
    row, column, token, choice = rows.picks.unbind(1)
    chosen = logits.float().log_softmax(-1)[row, column, token]
    out = chosen.new_zeros(rows.lengths.numel()).index_add_(0, choice, chosen).view(rows.lengths.shape)
    out = out / rows.lengths.clamp_min(1) if per_token else out
    return out.masked_fill(rows.lengths == 0, float("-inf"))


def margins(found: Float[Tensor, "samples choices"], answers: Int[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Log-probability of the right choice less that of the best other; above 0 the model is right."""
    right = found.gather(1, answers[:, None])
    others = found.scatter(1, answers[:, None], float("-inf"))
    return right[:, 0] - others.amax(1)


@torch.no_grad()
def choose(model: Any, samples: Sequence[ChoiceSample], edits: Any = None, per_token: bool = False) -> Tensor:
    """Margins of samples, [samples], in one forward. edits: one intervention for all of them."""
    rows = choice_rows(samples).to(model.device)
    out = model.forward(rows.tokens, rows.mask, keep=rows.kept, decode_from=rows.decode_from, edits=edits)
    return margins(log_probs(out.logits, rows, per_token), rows.answers)
