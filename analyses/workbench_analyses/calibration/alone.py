"""Every head calibrated alone: what it changes in the margin of each sample.

A head's sinks depend on nothing in its layer or above, so one pass without edits tells them, and a head that has none
in a prompt changes nothing there. The rest resumes from the residual stream that enters the head's layer, many
(sample, head) pairs in one forward; that stream goes on from the one that entered the layer tried before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

import workbench as wb
from workbench.budget import in_parts
from workbench.choosing import ChoiceRows, choice_rows, log_probs, margins
from workbench.footprint import forward_bytes
from workbench.sinks import SinkRule, prompt_sinks
from workbench.tasks.choices import ChoiceSample
from workbench_analyses.calibrate_heads import CalibrateHeads

Receivers = Literal["others", "all"]
ROUNDING = {torch.float32: 1e-5}
"""Changes below this share of the largest logit are nobody's effect: batches of another shape round another way."""


@torch.no_grad()
def each_alone(
    config: CalibrateHeads, model: Any, layers: Sequence[int], samples: Sequence[ChoiceSample]
) -> dict[str, np.ndarray]:
    """margin [n]; change of the margin [layers, heads, n] by calibrating one head; sinks found there [layers, heads, n].

    Layers that are not tried have no sinks and no change.
    """
    rows = choice_rows(samples).to(model.device)
    logits = model.forward(rows.tokens, rows.mask, keep=rows.kept, decode_from=rows.decode_from).logits
    base = margins(log_probs(logits, rows, config.per_token), rows.answers)
    floor = ROUNDING.get(model.dtype, 0.0) * float(logits.abs().max())
    sinks = prompt_sinks(model, [s.prompt for s in samples], rule_of(config))
    counts = np.zeros((model.n_layers, model.n_heads, len(samples)))
    counts[list(layers)] = sinks.sum(-1).permute(0, 2, 1).cpu().numpy()[list(layers)]
    change = np.zeros_like(counts)
    entered, resid = None, rows.tokens
    each = max(len(s.choices) for s in samples) * forward_bytes(
        model, rows.tokens.shape[1], rows.kept.stop - rows.kept.start
    )
    for layer in sorted(layers):
        pairs = sinks[layer].any(-1).nonzero().tolist()  # (sample, head)
        if not pairs:
            continue
        resid = model.resid_pre(layer, resid, rows.mask, decode_from=rows.decode_from, from_layer=entered)
        entered = layer

        def some(part: slice, layer: int = layer, resid: Tensor = resid, pairs: list[Any] = pairs) -> list[float]:
            asked = [(samples[i], head) for i, head in pairs[part]]
            places = [_places(sinks[layer, i, head], samples[i]) for i, head in pairs[part]]
            return _resumed(config, model, layer, resid, rows, asked, places).tolist()

        got = chain(*in_parts(model, "heads alone", len(pairs), each, some, most=config.batch))
        for (i, head), margin in zip(pairs, got, strict=True):
            moved = margin - float(base[i])
            change[layer, head, i] = moved if abs(moved) > floor else 0.0
    return {"margin": base.double().cpu().numpy(), "change": change, "sinks": counts}


def rule_of(config: CalibrateHeads) -> SinkRule:
    """How sinks are found."""
    return SinkRule(config.rule, config.a, config.absolute, config.exempt)


def calibrated(config: CalibrateHeads, heads: Sequence[tuple[int, int]], keys: Sequence[int] | None = None) -> Any:
    """The edit that is judged, on some heads; without keys, sinks are found as the model runs."""
    found: dict[str, Any] = (
        {"rule": config.rule, "a": config.a, "absolute": config.absolute} if keys is None else {"keys": tuple(keys)}
    )
    return wb.calibrate(heads, config.beta, exempt=config.exempt, receivers=cast(Receivers, config.receivers), **found)


def _places(sinks: Bool[Tensor, " keys"], sample: ChoiceSample) -> list[int]:
    """Sinks of one head in one prompt, counted from its first token."""
    return (sinks.nonzero().flatten() - (len(sinks) - len(sample.prompt))).tolist()


def _resumed(
    config: CalibrateHeads, model: Any, layer: int, resid: Float[Tensor, "rows n d"], rows: ChoiceRows,
    pairs: Sequence[tuple[ChoiceSample, int]], places: Sequence[Sequence[int]],
) -> Float[Tensor, " pairs"]:  # fmt: skip
    """Margins of (sample, head) pairs with that head calibrated. rows: those of all samples, as in resid."""
    part = choice_rows([sample for sample, _ in pairs], width=rows.tokens.shape[1]).to(model.device)
    index = torch.cat([rows.of(sample) for sample, _ in pairs])
    edits = [
        calibrated(config, [(layer, pairs[i][1])], [first + place for place in places[i]])
        for i, first in zip(part.owner.tolist(), part.first.tolist(), strict=True)
    ]
    out = model.forward_from(layer, resid[index], part.mask, edits=edits, keep=part.kept, decode_from=part.decode_from)
    return margins(log_probs(out.logits, part, config.per_token), part.answers)


def eligible(sinks: Bool[np.ndarray, "layers heads n"], layers: Sequence[int]) -> tuple[int, int]:
    """(head, sample) pairs of the layers tried in which there is a sink to calibrate, and all of them."""
    tried = sinks[list(layers)]
    return int((tried > 0).sum()), int(tried.size)
