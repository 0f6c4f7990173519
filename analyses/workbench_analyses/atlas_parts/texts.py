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

from workbench import images
from workbench.beginnings import begun
from workbench.errors import BadInput
from workbench.models import Model
from workbench.probes.repeats import COPIES
from workbench.progress import counting
from workbench.tasks.needle import Assembler
from workbench_analyses.atlas import LEAST_LENGTH, Atlas
from workbench_analyses.atlas_parts.prose import generated
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
    """The config with its defaults settled for a model. Raises BadInput where its context is too short, or it has no BOS."""
    if model.context < LEAST_LENGTH:
        raise BadInput(f"{model.name} takes {model.context} tokens; an atlas needs {LEAST_LENGTH}")
    bos = bool(begun(model.tokenizer, config.bos))
    return chz.replace(config, bos=bos, tokens=min(config.tokens, model.context))


def corpus(config: Atlas, model: Model, assembler: Assembler) -> Corpus:
    """The corpus sample of a settled config. Raises BadInput for texts that are too short."""
    unknown, head = model.tokenizer.unk_token_id, begun(model.tokenizer, bool(config.bos))
    if config.texts is None:
        room = config.tokens - len(head)
        rows, source = generated(assembler, unknown, config.samples, room, config.seed)
        tokens = torch.tensor([[*head, *row] for row in rows], device=model.device)
    else:
        natural, _ = probe_texts(cast(Any, config), model, assembler)
        tokens, source = natural.tokens, natural.source
    share = 0.0 if unknown is None else float((tokens == unknown).double().mean())
    words, places = np.unique(tokens.cpu().numpy(), return_inverse=True)
    return Corpus(tokens, source, share, words, torch.from_numpy(places.reshape(tokens.shape)))


def repeated(config: Atlas, model: Model) -> tuple[Int[Tensor, "texts n"], int]:
    """The same random tokens four times, each text its own, and the column at which the second time begins.

    No token stands twice in a segment, so that attention to copies is what RazorAttention measures
    (arXiv 2407.15891) at fixed distances.
    """
    pool = np.array(images.text_tokens(model))
    head = list(begun(model.tokenizer, bool(config.bos)))
    k = min((config.tokens - len(head)) // COPIES, len(pool))
    rng = np.random.default_rng([config.seed, 3])
    rows = [head + rng.permutation(pool)[:k].tolist() * COPIES for _ in counting("texts drawn", config.repeats)]
    return torch.tensor(rows, device=model.device), len(head) + k


def shown_texts(texts: Corpus, again: Int[Tensor, "texts n"] | None) -> list[Shown]:
    """Two corpus texts, and one of repeated tokens."""
    out = [Shown(f"text {i + 1}", tuple(row)) for i, row in enumerate(texts.tokens[:2].tolist())]
    if again is not None and len(again):
        out.append(Shown("repeated tokens", tuple(again[0].tolist())))
    return out
