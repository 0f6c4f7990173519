"""From numbers of each generated token to a score of each head."""

from __future__ import annotations

import warnings
from itertools import compress
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.heads import HeadScores, ModelIdentity

PerToken = Float[np.ndarray, "b t layers heads"]
"""Of each generated token; NaN behind a caption's end and in layers without softmax attention."""


def about(model: Any) -> dict[str, Any]:
    """What scores say of their model: fields of HeadScores."""
    skipped = tuple(i for i in range(model.n_layers) if i not in model.seam.layers)
    identity = ModelIdentity(model.name, *model.identity())
    return {"model": identity, "kv_heads": model.n_kv_heads, "skipped_layers": skipped}


def over_tokens(x: PerToken, method: str, at: str = "mean", **fields: Any) -> HeadScores:
    """One sample a caption: the mean over its tokens, or its first token; captions without a token are left out.

    Raises BadInput for another `at`.
    """
    if at not in ("mean", "first"):
        raise BadInput(f"at={at}: use mean (over the generated tokens) or first")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a caption without a token, a layer without attention
        each = np.nanmean(x, 1) if at == "mean" else x[:, 0]
    parameters, said = {"tokens": at, **fields.pop("parameters", {})}, np.asarray(~np.isnan(each).all((1, 2)))
    if (groups := fields.pop("groups", None)) is not None:
        fields["groups"] = tuple(compress(groups, said.tolist()))
    return HeadScores.from_samples(each[said], method, parameters=parameters, **fields)
