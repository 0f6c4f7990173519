"""What heads write when they read the tokens that they read most: the tokens whose logits they raise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int

from workbench.errors import Unsupported
from workbench.patching import promoted_tokens
from workbench.shards import depending
from workbench_analyses.atlas_parts.battery import why_not
from workbench_analyses.atlas_parts.side import Raised
from workbench_analyses.atlas_parts.texts import Corpus
from workbench_analyses.atlas_parts.work import Work, word

READ, RAISED = 3, 3
"""Tokens of a head that are asked, and the tokens that are shown for each."""


def raised(
    work: Work, texts: Corpus, reads: Int[np.ndarray, "layers heads k"]
) -> tuple[Raised | None, Mapping[str, str]]:
    """For each head, what its first READ tokens raise; nothing, and why, where its blocks do not say."""
    words = texts.words[reads[..., :READ]]
    report = work.stages.stage("what they write")

    def ask() -> dict[str, np.ndarray]:
        ids = torch.from_numpy(words).to(work.model.device)
        found = promoted_tokens(work.model, texts.tokens, ids, RAISED, work.config.batch)
        return {"ids": found.int().cpu().numpy()}

    try:
        ids = work.unit(depending("raised", words), ask)["ids"]
    except Unsupported as error:
        return None, {"what heads write": why_not(error)}
    finally:
        report(1, 1)
    every, places = np.unique(ids, return_inverse=True)
    return Raised(tuple(word(work.model, int(i)) for i in every), places.reshape(ids.shape), ids), {}
