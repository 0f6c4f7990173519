"""What one batch of probe texts gives: a pass that finds candidates, and one that looks at their rows.

Nothing of size N×N is kept; arrays that leave have the text's axis first, then layers and heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench import probes
from workbench.models import Model
from workbench.observation import observe
from workbench.sinks import SinkRule
from workbench_analyses.attention_sinks import ScanSinks

PEAKS = 32
"""Largest activations looked at for sink dimensions; three are shown."""
COLUMNS = ("text", "layer", "head", "key", "received", "even", "value_norm", "value_ratio", "key_ratio", "output_norm")
"""Of a candidate: norms at its key, ratios to the median over the text; mean norm of the head's output."""
Arrays = Mapping[str, np.ndarray]


def first_pass(model: Model, tokens: Int[Tensor, "b n"], config: ScanSinks) -> dict[str, np.ndarray]:
    """Received attention and what the rules make of it, norms, massive activations, the learned sink's share."""
    asked = [
        probes.received(), probes.even(), probes.norms("mean"), probes.value_norms(), probes.key_norms(),
        probes.sink_mass(), probes.massive(PEAKS),
    ]  # fmt: skip
    seen, n = observe(model, tokens, asked), tokens.shape[1]
    received, even = seen["received"].double(), seen["even"]
    queries = even.queries
    every, zero = torch.full((len(tokens),), n), torch.zeros(len(tokens), dtype=torch.long)

    def flagged(rule: SinkRule) -> Tensor:
        return rule.candidates(received, even.received, queries, every, zero)

    flags = flagged(SinkRule(a=config.a))
    first = received[..., 0] * (queries[..., :1] / n)  # over all queries; a sliding window hides the key from some
    massive = seen["massive"]
    out = {
        "first": first,
        "paper": flagged(SinkRule("paper", config.a)).sum(-1),
        "absolute": flagged(SinkRule(absolute=config.absolute)).sum(-1),
        "learned": seen["sink_mass"].mean(-1),
    }
    missing = received.isnan().all(-1)  # layers without softmax attention
    out = {k: _by_text(v.double().masked_fill(missing, float("nan"))) for k, v in out.items()}
    out |= {name: _by_text(getattr(massive, name)) for name in massive._fields}
    return out | {"candidates": _candidates(model, flags, received, even.received, seen)}


def _candidates(model: Model, flags: Tensor, received: Tensor, even: Tensor, seen: Mapping) -> np.ndarray:
    """One row per candidate, in the order of COLUMNS."""
    layer, text, head, key = (i.cpu().numpy() for i in flags.nonzero(as_tuple=True))
    kv = head // (model.n_heads // model.n_kv_heads)
    values, keys = (seen[name].double() for name in ("value_norms", "key_norms"))
    norms = seen["norms"][..., 0].double().cpu().numpy()
    value, value_ratio = _norms(values, layer, text, kv, key)
    _, key_ratio = _norms(keys, layer, text, kv, key)
    alpha, yard = received.cpu().numpy()[layer, text, head, key], even.cpu().numpy()[layer, text, key]
    columns = (text, layer, head, key, alpha, yard, value, value_ratio, key_ratio, norms[layer, text, head])
    return np.stack([np.asarray(c, dtype=np.float64) for c in columns], 1)


def _norms(x: Tensor, layer: np.ndarray, text: np.ndarray, kv: np.ndarray, key: np.ndarray) -> tuple:
    """Norms at the keys, and their ratios to the median over the text's keys."""
    at = x.cpu().numpy()[layer, text, kv, key]
    usual = x.median(-1).values.cpu().numpy()[layer, text, kv]
    with np.errstate(divide="ignore", invalid="ignore"):
        return at, np.where(usual > 0, at / usual, np.nan)


def second_pass(
    model: Model, tokens: Int[Tensor, "b n"], candidates: np.ndarray, dims: Sequence[int]
) -> dict[str, np.ndarray]:
    """Of each candidate, `held` (see `wb.probes.held`) and Φ; and Φ of every token, [b, layers, n] (empty: no dims)."""
    b = tokens.shape[0]
    text, layer, head, key = (candidates[:, i].astype(int) for i in range(4))
    per_text = [sorted({*key[text == i].tolist()}) or [0] for i in range(b)]
    most = max(map(len, per_text))
    columns = [row + [row[0]] * (most - len(row)) for row in per_text]
    seen = observe(model, tokens, [probes.held(columns), *([probes.phi(dims)] if dims else [])])
    place = np.array([per_text[t].index(k) for t, k in zip(text, key, strict=True)], dtype=int)
    held = seen["held"].cpu().numpy()[layer, text, head, place] if len(place) else np.zeros(0)
    phi = _by_text(seen["phi"]).astype(np.float32) if dims else np.zeros((b, 0, 0), np.float32)
    at = phi[text, layer, key] if dims else np.full(len(place), np.nan)
    return {"held": np.asarray(held, np.float64), "phi_at": np.asarray(at, np.float64), "phi": phi}


@torch.no_grad()
def first_token_rate(model: Model, tokens: Int[Tensor, "b n"]) -> np.ndarray:
    """α of the first token, [b, layers, heads]: what Sink^eps counts (Gu et al. 2025, arXiv 2410.10781)."""
    return _by_text(observe(model, tokens, [probes.received()])["received"][..., 0].double())


def sink_dimensions(parts: Sequence[Arrays], least: float, ratio: float) -> list[int]:
    """Dimensions in which a massive activation stands, in any layer of any text."""
    dims: set[int] = set()
    for part in parts:
        dims.update(part["dims"][is_massive(part, least, ratio)].astype(int).tolist())
    return sorted(dims)


def is_massive(part: Arrays, least: float, ratio: float) -> np.ndarray:
    """Which of the largest activations are massive, [texts, layers, k]; a median of zero is no yardstick."""
    median = part["median"][..., None]
    return (part["values"] > least) & (part["values"] >= ratio * median) & (median > 0)


def _by_text(x: Tensor) -> np.ndarray:
    return x.transpose(0, 1).cpu().numpy()
