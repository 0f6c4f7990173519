"""How much of the needles a model still tells with heads masked; every batch row masks heads of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.budget import in_parts
from workbench.controls import Heads
from workbench.footprint import cache_bytes, forward_bytes
from workbench.probes.retrieval import rouge_recall
from workbench.tasks.needle import Sample

Ablate = Callable[[Heads], Any]
"""From a list of heads to the intervention that takes them out."""
Recall = Callable[[list[Heads]], Float[np.ndarray, "lists samples"]]
WORDY = 0.5
"""Unmasked exact recall below which the answers are read by ROUGE instead."""


@torch.no_grad()
def exact_recall(
    model: Any, samples: Sequence[Sample], lists: Sequence[Heads], ablate: Ablate, batch: int
) -> Float[np.ndarray, "lists samples"]:
    """1 where the expected answer is what greedy decoding says: the arg-max after every one of its prefixes.

    One forward tells it. Rows resume at the lowest layer that their lists edit.
    """
    out = np.zeros((len(lists), len(samples)))
    for j, sample in enumerate(samples):
        out[:, j] = _exact(model, sample, lists, ablate, batch)
    return out


def _exact(
    model: Any, sample: Sample, lists: Sequence[Heads], ablate: Ablate, batch: int
) -> Bool[np.ndarray, " lists"]:  # fmt: skip
    """One sample of `exact_recall`."""
    tokens, out = (
        torch.tensor([[*sample.tokens, *sample.answer]], device=model.device),
        np.zeros(len(lists), dtype=bool),
    )
    first, n = len(sample.tokens) - 1, len(sample.answer)
    answer = torch.tensor(sample.answer, device=model.device)
    for layer, members in _by_lowest_layer(lists, model.n_layers - 1).items():
        resid = model.resid_pre(layer, tokens, decode_from=[first])

        def some(rows: slice, layer: int = layer, resid: Tensor = resid, members: list[int] = members) -> None:
            part = members[rows]
            got = model.forward_from(
                layer, resid.expand(len(part), -1, -1), edits=[ablate(lists[i]) for i in part],
                keep=slice(first, first + n), decode_from=[first],
            )  # fmt: skip
            out[part] = (got.logits.argmax(-1) == answer).all(-1).cpu().numpy()

        in_parts(model, "masked variants", len(members), forward_bytes(model, tokens.shape[1], n), some, most=batch)
    return out


def rouge(
    model: Any, samples: Sequence[Sample], lists: Sequence[Heads], ablate: Ablate, batch: int, ends: set[int]
) -> Float[np.ndarray, "lists samples"]:
    """ROUGE-1 recall of the answer in the greedy response: for models that answer in words of their own."""
    out = np.zeros((len(lists), len(samples)))
    for j, sample in enumerate(samples):
        said, steps = model.tokenizer.decode(sample.answer), max(16, 4 * len(sample.answer))
        texts = responses(model, sample.tokens, lists, ablate, batch, ends, steps)
        out[:, j] = [rouge_recall(said, text) for text in texts]
    return out


@torch.no_grad()
def responses(
    model: Any, prompt: Sequence[int], lists: Sequence[Heads], ablate: Ablate, batch: int, ends: set[int], steps: int
) -> list[str]:
    """What the model says to a prompt with each of the lists ablated, up to a token of `ends` or so many steps."""
    tokens = torch.tensor([prompt], device=model.device)

    def some(rows: slice) -> list[str]:
        edits, out = [ablate(heads) for heads in lists[rows]], []
        for row in model.generate(tokens.expand(len(edits), -1), steps, sorted(ends), edits).tolist():
            stop = next((at for at, token in enumerate(row) if token in ends), len(row))
            out.append(model.tokenizer.decode(row[:stop]))
        return out

    each = forward_bytes(model, len(prompt)) + 2 * cache_bytes(model, len(prompt) + steps)
    parts = in_parts(model, "masked variants", len(lists), each, some, most=batch) if lists else []
    return [text for part in parts for text in part]


def readable_recall(
    model: Any, samples: Sequence[Sample], ablate: Ablate, batch: int, ends: set[int]
) -> tuple[str, float, Recall]:
    """How these samples are read (exactly, or by ROUGE where the model answers in other words), its value unedited."""
    exact = partial(exact_recall, model, samples, ablate=ablate, batch=batch)
    base = float(exact([()]).mean())
    if base < WORDY:
        spoken = partial(rouge, model, samples, ablate=ablate, batch=batch, ends=ends)
        told = float(spoken([()]).mean())
        if told > base:
            return "ROUGE-1 recall", told, spoken
    return "exact recall", base, exact


def _by_lowest_layer(lists: Sequence[Heads], last: int) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for i, heads in enumerate(lists):
        groups.setdefault(min((layer for layer, _ in heads), default=last), []).append(i)
    return groups
