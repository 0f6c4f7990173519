"""The file of one head in HeadVis' tree: its texts with sparse attention, and what is derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from workbench.head_metrics import Text

FAINTEST = 0.005
"""Weights below are left out, as Neuronpedia does."""
DIGITS = 4
EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
TOKENS, BINS, INTERVALS = 50, 50, 5


def head_payload(texts: Sequence[Text], layer: int, head: int) -> dict[str, Any]:
    """All that the page of a head shows. Intervals are ranks of the largest weight among these texts, 1 the lowest."""
    kept = [_sparse(t, layer, head) for t in texts]
    largest = np.array([_largest(q, k, w) for q, k, w in kept])
    places = np.empty(len(texts), dtype=int)
    places[np.argsort(largest, kind="stable")] = np.arange(len(texts))
    steps = max(1, min(INTERVALS, len(texts)))
    rows = [
        {
            "sequence_id": i, "interval": 1 + int(places[i]) * steps // len(texts), "tokens": list(text.words),
            "attention_indices": (q * len(text.words) + k).tolist(),
            "attention_values": [round(float(x), DIGITS) for x in w],
            "seq_len": len(text.words), "max_activation": round(float(largest[i]), DIGITS),
        }
        for i, (text, (q, k, w)) in enumerate(zip(texts, kept, strict=True))
    ]  # fmt: skip
    rows.sort(key=lambda row: (-row["interval"], -row["max_activation"]))
    counts = np.histogram(np.clip(largest, 0, 1), BINS, (0, 1))[0] if len(texts) else np.zeros(BINS, int)
    return {
        "sequences": rows,
        "qk_distance_histogram": _distances(kept),
        "top_query_tokens": _tokens(texts, kept, 0),
        "top_key_tokens": _tokens(texts, kept, 1),
        "histogram": {"bin_edges": np.round(np.linspace(0, 1, BINS + 1), DIGITS), "bin_values": counts},
        "statistics": {"n_samples": len(texts), "mean_max_activation": float(largest.mean()) if len(texts) else None},
    }


Kept = tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Float[np.ndarray, " m"]]
"""Queries, keys and weights, in the order of the flat index."""


def _sparse(text: Text, layer: int, head: int) -> Kept:
    keys, weights = (
        text.keys[layer, head].astype(np.int64),
        np.round(text.weights[layer, head].astype(np.float64), DIGITS),
    )
    queries = np.broadcast_to(np.arange(len(keys))[:, None], keys.shape)
    keep = weights >= FAINTEST
    q, k, w = queries[keep], keys[keep], weights[keep]
    order = np.lexsort((k, q))
    return q[order], k[order], w[order]


def _largest(q: np.ndarray, k: np.ndarray, w: np.ndarray) -> float:
    """Without the first row and the first key, as HeadVis' pages look at it."""
    rest = w[(q > 0) & (k > 0)]
    return float(rest.max()) if len(rest) else 0.0


def _distances(kept: Sequence[Kept]) -> dict[str, Any]:
    """Mass by distance of what is kept."""
    total = np.zeros(len(EDGES) - 1)
    for q, k, w in kept:
        total += np.histogram(np.abs(q - k), EDGES, weights=w)[0]
    return {"bin_edges": list(EDGES), "bin_values": np.round(total, DIGITS)}


def _tokens(texts: Sequence[Text], kept: Sequence[Kept], which: int) -> list[dict[str, Any]]:
    """Token strings by the mass of their queries (0) or keys (1)."""
    found: dict[str, float] = {}
    for text, part in zip(texts, kept, strict=True):
        mass = np.bincount(part[which], part[2], len(text.words))
        for word, x in zip(text.words, mass.tolist(), strict=True):
            if x > 0:
                found[word] = found.get(word, 0.0) + x
    best = sorted(found.items(), key=lambda item: -item[1])[:TOKENS]
    return [{"token": word, "weight": round(x, DIGITS)} for word, x in best]
