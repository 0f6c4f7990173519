"""The heads under test: as given, or found here by a few needles that the simulation does not ask again."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.errors import BadInput
from workbench.heads import HeadScores, ModelIdentity
from workbench.models import Model
from workbench.probes.retrieval import score_block
from workbench.runs import Remember
from workbench.scores_io import read_scores
from workbench.tasks.needle import Assembler, answer_ends, blocks
from workbench_analyses.kv_policies import Simulate

LENGTH, DEPTHS, ROUNDS, SEED = 256, (10, 50, 90), 4, 60_000


def heads_under_test(config: Simulate, model: Model, assembler: Assembler, remember: Remember) -> HeadScores:
    """A score of every head. Raises BadInput for another model's, and for lists with heads that were never scored."""
    if config.heads is not None:
        scores = read_scores(config.heads, model=model)
        source = config.heads
    else:
        arrays, _ = remember("heads", lambda: (_found(config, model, assembler), {}))
        identity = ModelIdentity(model.name, *model.identity())
        told = {"model": identity, "kv_heads": model.n_kv_heads, "parameters": {"needles": len(arrays["scores"])}}
        scores, source = HeadScores.from_samples(arrays["scores"], "retrieval/distinct", **told), "needles asked here"
    if not scores.scored.all():
        missing = int((~scores.scored).sum())
        raise BadInput(f"{source}: {missing} heads have no score, so no policy knows what to do with them")
    return scores


def _found(config: Simulate, model: Model, assembler: Assembler) -> dict[str, np.ndarray]:
    length = min(LENGTH, config.context)
    stops = answer_ends(model.tokenizer, model.stop_tokens)
    asked = blocks(assembler, [length], DEPTHS, ROUNDS, config.seed + SEED, haystack=config.haystack)
    scored = [s for block in asked for s in score_block(model, block, stops)]
    told = [s.distinct for s in scored if s.accepted]
    if not told:
        raise BadInput(f"{model.name} answers none of {len(scored)} needles, so no head is found: give heads=")
    return {"scores": np.stack(told)}


def per_query_head(scores: HeadScores, n_heads: int) -> dict[int, Any]:
    """Scores of every query head, layer by layer; those of key-value heads are repeated over their group."""
    wide = np.repeat(scores.values, n_heads // scores.n_heads, 1)
    return dict(enumerate(wide))
