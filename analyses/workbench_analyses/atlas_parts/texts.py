"""The texts of an atlas: a corpus sample, repeated random tokens, and the prompts that are shown as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import chz
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import BadInput
from workbench.models import Model
from workbench.probes.repeats import COPIES
from workbench.tasks.needle import Assembler
from workbench_analyses.atlas import LEAST_LENGTH, Atlas
from workbench_analyses.sinks.texts import probe_texts


@dataclass(frozen=True, eq=False)
class Corpus:
    """tokens: texts of one length. source: where they are from. unknown: share of tokens that the vocabulary lacks."""

    tokens: Int[Tensor, "texts n"]
    source: str
    unknown: float
    words: Int[np.ndarray, " words"]  # token ids that occur, sorted
    places: Int[Tensor, "texts n"]  # the place of each token among them


@dataclass(frozen=True, eq=False)
class Shown:
    """A prompt whose pattern is shown. inputs: what the model reads besides, such as pixels. spans: named parts."""

    name: str
    tokens: tuple[int, ...]
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    inputs: Mapping[str, Any] | None = None


def fitted(config: Atlas, model: Model) -> Atlas:
    """The config with its defaults settled for a model. Raises BadInput where its context is too short."""
    if model.context < LEAST_LENGTH:
        raise BadInput(f"{model.name} takes {model.context} tokens; an atlas needs {LEAST_LENGTH}")
    bos = model.tokenizer.bos_token_id is not None if config.bos is None else config.bos
    return chz.replace(config, bos=bos, tokens=min(config.tokens, model.context))


def corpus(config: Atlas, model: Model, assembler: Assembler) -> Corpus:
    """The corpus sample of a settled config. Raises BadInput for texts that are too short."""
    natural, _ = probe_texts(cast(Any, config), model, assembler)
    unknown = model.tokenizer.unk_token_id
    share = 0.0 if unknown is None else float((natural.tokens == unknown).double().mean())
    words, places = np.unique(natural.tokens.cpu().numpy(), return_inverse=True)
    return Corpus(natural.tokens, natural.source, share, words, torch.from_numpy(places.reshape(natural.tokens.shape)))


def repeated(config: Atlas, model: Model) -> tuple[Int[Tensor, "texts n"], int]:
    """The same random tokens four times, each text its own, and the column at which the second time begins.

    No token stands twice in a segment, so that attention to copies is what RazorAttention measures
    (arXiv 2407.15891) at fixed distances.
    """
    special = set(model.tokenizer.all_special_ids)
    known = min(len(model.tokenizer), int(model.bridge.cfg.d_vocab))
    pool = np.array([t for t in range(known) if t not in special])
    head = [model.tokenizer.bos_token_id] if config.bos else []
    k = min((config.tokens - len(head)) // COPIES, len(pool))
    rng = np.random.default_rng([config.seed, 3])
    rows = [head + rng.permutation(pool)[:k].tolist() * COPIES for _ in range(config.repeats)]
    return torch.tensor(rows, device=model.device), len(head) + k


def shown_texts(texts: Corpus, again: Int[Tensor, "texts n"] | None) -> list[Shown]:
    """Two corpus texts, and one of repeated tokens."""
    out = [Shown(f"text {i + 1}", tuple(row)) for i, row in enumerate(texts.tokens[:2].tolist())]
    if again is not None and len(again):
        out.append(Shown("repeated tokens", tuple(again[0].tolist())))
    return out
