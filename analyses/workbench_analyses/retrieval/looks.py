"""Where the top heads look: rows of attention on one needle sample, and whole maps of a short one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from workbench_kernels import Reductions

from workbench.heads import Head, HeadScores
from workbench.models import Model
from workbench.tasks.needle import Sample

HEADS = 4
WHOLE_MAP = 128
"""CircuitsVis draws whole maps up to this many tokens."""


@dataclass(frozen=True, eq=False, repr=False)
class Looks:
    """Attention of the top heads over one prompt and its forced answer."""

    heads: tuple[Head, ...]
    words: tuple[str, ...]
    rows: tuple[int, ...]
    """Positions whose attention is held."""
    reading: int
    """The one of them that produces the answer's first token."""
    weights: Float[np.ndarray, "heads rows tokens"]
    spans: dict[str, tuple[int, int]]

    def __repr__(self) -> str:
        """Its heads and size."""
        return f"Looks({' '.join(map(str, self.heads))}: {len(self.rows)} rows × {len(self.words)} tokens)"

    def _repr_html_(self) -> str:
        """The notebook output: what each head reads when the answer's first token is produced."""
        from workbench.views.token_strip import token_strip

        row = self.rows.index(self.reading)
        produced = self.words[self.rows[row] + 1]
        strips = (
            token_strip(self.words, w[row], self.spans["answer"], f"{head} at the step that produces “{produced}”")
            for head, w in zip(self.heads, self.weights, strict=True)
        )
        return "".join(strips)


def looks_at_answer(model: Model, scores: HeadScores, sample: Sample) -> Looks:
    """The rows that produce the answer's tokens, of the four top heads."""
    first = len(sample.tokens) - 1
    return _looks(model, scores, sample, range(first, first + len(sample.answer)))


def whole_maps(model: Model, scores: HeadScores, sample: Sample) -> Looks | None:
    """Every row of a prompt of at most 128 tokens, of the four top heads; None where it is longer."""
    total = len(sample.tokens) + len(sample.answer)
    return _looks(model, scores, sample, range(total)) if total <= WHOLE_MAP else None


@torch.no_grad()
def _looks(model: Model, scores: HeadScores, sample: Sample, rows: Sequence[int]) -> Looks:
    heads = tuple(scores.top(HEADS))
    ids = [*sample.tokens, *sample.answer]
    want = Reductions(rows=torch.tensor([list(rows)]), top_k=len(ids))
    layers = {h.layer for h in heads}
    tokens = torch.tensor([ids], device=model.device)
    stats: Any = model.forward(tokens, reductions=lambda layer, mask: want if layer in layers else None).statistics
    weights = np.zeros((len(heads), len(rows), len(ids)), dtype=np.float32)
    for i, head in enumerate(heads):
        values = stats[head.layer].top_values[0, head.head].float().cpu().numpy()
        indices = stats[head.layer].top_indices[0, head.head].cpu().numpy()
        np.put_along_axis(weights[i], indices, values, axis=1)
    words = tuple(str(model.tokenizer.decode([t])) for t in ids)
    return Looks(heads, words, tuple(rows), len(sample.tokens) - 1, weights, dict(sample.spans))
