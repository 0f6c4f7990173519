"""Every head calibrated alone: what it changes in the margin of each sample.

A head's sinks depend on nothing in its layer or above, so one pass without edits tells them, and a head that has none
in a prompt changes nothing there. The rest resumes from the residual stream that enters the head's layer, many
(sample, head) pairs in one forward; that stream goes on from the one that entered the layer tried before. As many
samples are at work as the budget of memory holds.
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
from workbench.footprint import stream_bytes
from workbench.sinks import SinkRule, prompt_sinks
from workbench.tasks.choices import ChoiceSample
from workbench_analyses.calibrate_heads import CalibrateHeads
from workbench_analyses.calibration.sizes import at_once, choice_bytes, rows_of_one, sink_bytes

Receivers = Literal["others", "all"]
ROUNDING = {torch.float32: 1e-5}
"""Changes below this share of the largest logit are nobody's effect: batches of another shape round another way."""


@torch.no_grad()
def each_alone(
    config: CalibrateHeads, model: Any, layers: Sequence[int], samples: Sequence[ChoiceSample]
) -> dict[str, np.ndarray]:
    """margin [n]; change of the margin [layers, heads, n] by calibrating one head; sinks found there [layers, heads, n].

    Layers that are not tried have no sinks and no change. Raises TooLarge where a stated budget of memory does not hold
    one sample.
    """
    rows = choice_rows(samples)
    width = rows.tokens.shape[1]
    each = choice_bytes(model, rows) + rows_of_one(rows) * stream_bytes(model, width) + sink_bytes(model, width)

    def some(part: slice) -> tuple[dict[str, np.ndarray], float]:
        return _alone(config, model, layers, samples[part], width)

    parts = in_parts(model, "choices", len(samples), each, some, most=at_once(config, rows))
    found = {name: np.concatenate([arrays[name] for arrays, _ in parts], -1) for name in parts[0][0]}
    floor = ROUNDING.get(model.dtype, 0.0) * max(largest for _, largest in parts)
    found["change"][~(np.abs(found["change"]) > floor)] = 0.0
    return found


def _alone(
    config: CalibrateHeads, model: Any, layers: Sequence[int], samples: Sequence[ChoiceSample], width: int
) -> tuple[dict[str, np.ndarray], float]:
    """What `each_alone` gives of some samples, rounding and all, and the largest logit. width: of all rows."""
    rows = choice_rows(samples, width).to(model.device)
    base, largest = _as_it_is(config, model, rows)
    sinks = prompt_sinks(model, [s.prompt for s in samples], rule_of(config))
    counts = np.zeros((model.n_layers, model.n_heads, len(samples)))
    counts[list(layers)] = sinks.sum(-1).permute(0, 2, 1).cpu().numpy()[list(layers)]
    change = np.zeros_like(counts)
    entered, resid = None, rows.tokens
    fixed = len(resid) * stream_bytes(model, width) + len(samples) * sink_bytes(model, width)
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

        each, most = choice_bytes(model, rows), at_once(config, rows)
        got = chain(*in_parts(model, "heads alone", len(pairs), each, some, fixed=fixed, most=most))
        for (i, head), margin in zip(pairs, got, strict=True):
            change[layer, head, i] = margin - float(base[i])
    return {"margin": base.double().cpu().numpy(), "change": change, "sinks": counts}, largest


def _as_it_is(config: CalibrateHeads, model: Any, rows: ChoiceRows) -> tuple[Float[Tensor, " samples"], float]:
    """Margins without edits, and the largest logit."""
    logits = model.forward(rows.tokens, rows.mask, keep=rows.kept, decode_from=rows.decode_from).logits
    return margins(log_probs(logits, rows, config.per_token), rows.answers), float(logits.abs().max())


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
