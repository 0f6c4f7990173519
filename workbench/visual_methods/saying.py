"""Captions of pictures, and how sure the model was of each of their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.visual.words import text_of
from workbench.visual_methods.pictures import Pictures

LOGITS = "unembed.hook_out"


@dataclass(frozen=True)
class Said:
    """A caption. ends: characters of its text after each of its tokens. log_p: of each token, in nats.

    away: at each token, how far the likeliest stop token was behind the token that was said, in nats.
    """

    text: str
    ends: tuple[int, ...]
    log_p: tuple[float, ...]
    away: tuple[float, ...]

    def log_probability(self, start: int, end: int) -> float:
        """Of the tokens that write characters start…end: the sum of their log-probabilities."""
        begins = (0, *self.ends[:-1])
        pairs = zip(begins, self.ends, self.log_p, strict=True)
        return sum(p for a, b, p in pairs if b > start and a < end)


def captions(model: Any, pictures: Pictures, longest: int, edits: Any = None) -> list[str]:
    """Greedy captions. longest: tokens, at most. edits: see `Model.generate`."""
    said = model.generate(pictures.tokens, longest, edits=edits, inputs=pictures.inputs)
    return [text_of(model.tokenizer, ids) for ids in _cut(model, said)]


def said_surely(model: Any, pictures: Pictures, longest: int) -> list[Said]:
    """Greedy captions and how sure every token was, in one generation."""
    steps: list[Tensor] = []
    stops = torch.tensor(model.stop_tokens, device=model.device)

    def keep(logits: Tensor, hook: Any) -> None:
        log_p = logits[:, -1].float().log_softmax(-1)
        best = log_p.amax(-1)
        steps.append(torch.stack([best, best - log_p[:, stops].amax(-1)]))

    with model.bridge.hooks(fwd_hooks=[(LOGITS, keep)]):
        said = model.generate(pictures.tokens, longest, inputs=pictures.inputs)
    sure = torch.stack(steps, -1).unbind(0)
    log_p, away = (x.tolist() for x in sure)
    return [_said(model, ids, log_p[i][: len(ids)], away[i][: len(ids)]) for i, ids in enumerate(_cut(model, said))]


def _cut(model: Any, said: Tensor) -> list[list[int]]:
    """Ids of each caption up to its stop token."""
    ends, out = set(model.stop_tokens), []
    for row in said.tolist():
        stop = next((i for i, t in enumerate(row) if t in ends), len(row))
        out.append(row[:stop])
    return out


def _said(model: Any, ids: list[int], log_p: list[float], away: list[float]) -> Said:
    ends = tuple(len(text_of(model.tokenizer, ids[: i + 1])) for i in range(len(ids)))
    return Said(text_of(model.tokenizer, ids), ends, tuple(log_p), tuple(away))
