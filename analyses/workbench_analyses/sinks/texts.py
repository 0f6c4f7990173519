"""Probe texts of exactly T tokens: natural ones (the user's, or generated prose) and uniformly random tokens.

All are equally long and unpadded; BOS stands first, exactly once, or nowhere, as the model's texts begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench import images
from workbench.beginnings import begun, first_ids, without
from workbench.errors import BadInput
from workbench.models import Model
from workbench.progress import counting
from workbench.tasks.needle import Assembler, sentences_of
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.sinks.reading import read_texts

GENERATED = "bundled generated prose"


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts of one kind, [samples, T] token ids, and where they come from. begun: the first ids are BOS."""

    kind: str
    source: str
    tokens: Int[Tensor, "samples T"]
    begun: bool


def probe_texts(config: ScanSinks, model: Model, assembler: Assembler) -> tuple[Texts, Texts]:
    """Natural and random texts. Raises BadInput for BOS that the model has not and for a text shorter than T."""
    head = _head(config, model)
    room = config.tokens - len(head)
    if config.texts is None:
        natural, source = _generated(config, assembler, room), GENERATED
    else:
        natural, source = _given(config, model, head), config.texts
    pool = np.array([i for i in images.text_tokens(model) if i not in head])
    random = np.random.default_rng([config.seed, 1]).choice(pool, (config.samples, room))
    return tuple(
        Texts(kind, where, torch.tensor([[*head, *map(int, row)] for row in rows], device=model.device), bool(head))
        for kind, where, rows in (("natural", source, natural), ("random", "uniformly random tokens", random))
    )  # pyright: ignore[reportReturnType]


def _head(config: ScanSinks, model: Model) -> list[int]:
    if config.tokens > model.context:
        raise BadInput(
            f"tokens={config.tokens}: {model.name} takes {model.context}; set tokens={model.context} or less"
        )
    return list(begun(model.tokenizer, config.bos))


def _generated(config: ScanSinks, assembler: Assembler, room: int) -> list[list[int]]:
    """The haystack of the retrieval scan, another one for each text."""
    out = []
    for i in counting("texts drawn", config.samples):
        ids: list[int] = []
        for sentence in sentences_of(None, np.random.default_rng([config.seed, 2, i]), assembler):
            ids += sentence
            if len(ids) >= room:
                break
        out.append(ids[:room])
    return out


def _given(config: ScanSinks, model: Model, head: list[int]) -> list[list[int]]:
    """Pieces of the user's files, spread evenly over all that there are."""
    room, pieces = config.tokens - len(head), []
    for name, text in read_texts(str(config.texts)).items():
        ids = without(head or first_ids(model.tokenizer), model.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) < room:
            least = len(ids) + config.tokens - room
            raise BadInput(f"texts={name}: {least} tokens, shorter than tokens={config.tokens}; lower tokens=")
        pieces += [ids[i : i + room] for i in range(0, len(ids) - room + 1, room)]
    if len(pieces) < config.samples:
        raise BadInput(
            f"texts={config.texts}: {len(pieces)} pieces of tokens={config.tokens}, fewer than samples={config.samples}; "
            "lower one of them"
        )
    return [pieces[int(i)] for i in np.linspace(0, len(pieces) - 1, config.samples)]
