"""Causal contrast: does a head push invented words more than those that are there? (AD-HH, ICLR 2025)

Every head is put out in a row of one batch. The picture is looked at once: rows resume from the residual stream that
enters the head's layer, so the layers below it are run once for all of its heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench import images
from workbench.budget import in_parts
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.interventions import mask
from workbench.visual.sizes import contrast_bytes
from workbench.visual.told import Rows, Told
from workbench.visual.words import Word

MEASURES = ("probability", "absolute", "log")
BATCH = 256
"""Rows of one forward, at most."""
Run = Callable[[int, list[int], slice], Tensor]
"""Logits of some columns with each of some heads of a layer put out, [heads · captions, columns, vocabulary]; no head: as
they are."""


@torch.no_grad()
def word_effects(
    model: Any, told: Told, words: Sequence[Word], measure: str = "probability", batch: int = BATCH
) -> Float[np.ndarray, "words layers heads"]:
    """I = p(word) − p(word) with a head's output zeroed at all positions, for every word and every head.

    Captions are teacher-forced. measure: absolute is |I|, log is the difference of log p. batch: rows of one forward.
    NaN in layers without softmax attention. Raises BadInput for another measure and for a word off its caption.
    """
    if measure not in MEASURES:
        raise BadInput(f"measure={measure}: use {', '.join(MEASURES)}")
    length = told.length.tolist()
    for w in words:
        if not (0 <= w.row < len(length) and 0 <= w.step < length[w.row]):
            raise BadInput(f"word {w.object!r}: token {w.step} of caption {w.row} does not exist")
    out = np.full((len(words), model.n_layers, model.n_heads), np.nan)
    used = sorted({w.row for w in words}) if told.one_a_row else list(range(len(length)))
    for start in range(0, len(used), batch):
        part = used[start : start + batch]
        mine = [i for i, w in enumerate(words) if w.row in set(part)]
        moved = [words[i]._replace(row=part.index(words[i].row)) for i in mine]
        out[mine] = _effects(model, told.some(part), moved, measure, batch)
    return out


def causal_contrast(
    effects: Float[np.ndarray, "words layers heads"], invented: Bool[np.ndarray, " words"], images: Sequence[str],
    **fields: Any,
) -> HeadScores:  # fmt: skip
    """Mean effect on invented words minus mean effect on correct ones; a head above 0 drives what is not there.

    images: the picture of each word; intervals resample pictures. A word's sample is the contrast plus its influence on it
    (its distance from its kind's mean, divided by the kind's share), so that the mean over samples is the contrast.
    Raises BadInput unless there are words of both kinds.
    """
    invented, n = np.asarray(invented, dtype=bool), len(effects)
    if not (invented.any() and (~invented).any()):
        raise BadInput(
            f"causal contrast: {int(invented.sum())} of {n} words are invented; it needs words of both kinds"
        )
    of, off = effects[invented].mean(0), effects[~invented].mean(0)
    samples = np.where(
        invented[:, None, None], (effects - of) * n / invented.sum(), -(effects - off) * n / (~invented).sum()
    )
    parameters = {"invented": int(invented.sum()), "correct": int((~invented).sum()), **fields.pop("parameters", {})}
    return HeadScores.from_samples(
        samples + of - off, "visual/causal_contrast", groups=tuple(images), parameters=parameters, **fields
    )


def _effects(
    model: Any, told: Told, words: Sequence[Word], measure: str, batch: int
) -> Float[np.ndarray, "words layers heads"]:
    rows = told.seen()
    first = told.prompt.tokens.shape[1] - 1
    kept = slice(first + min(w.step for w in words), first + max(w.step for w in words) + 1)
    rows = _cut(rows, kept.stop, told.prompt.tokens.shape[1])
    places = torch.tensor([[w.row, first + w.step - kept.start, told.said[w.row, w.step]] for w in words])
    row, column, token = places.to(rows.tokens.device).unbind(1)
    n, out = len(rows.tokens), np.full((len(words), model.n_layers, model.n_heads), np.nan)
    each = n * contrast_bytes(model, rows.tokens.shape[1], kept.stop - kept.start)
    run = _whole(model, rows) if images.placed(model) else _resumed(model, rows)
    base = _log_p(run(min(model.seam.layers), [], kept), row, column, token)
    for layer in sorted(model.seam.layers):

        def some(which: slice, layer: int = layer) -> Tensor:
            heads = list(range(which.start, which.stop))
            logits = run(layer, heads, kept).unflatten(0, (len(heads), -1))
            return torch.stack([_log_p(one, row, column, token) for one in logits])

        zeroed = torch.cat(in_parts(model, "heads put out", model.n_heads, each, some, most=max(1, batch // n)))
        out[:, layer] = _change(base, zeroed, measure).T.cpu().numpy()
    return out


def _resumed(model: Any, rows: Rows) -> Run:
    """Rows go on from the stream that enters the layer, which is kept and moved up."""
    lowest = min(model.seam.layers)
    held = [lowest, model.resid_pre(lowest, rows.tokens, rows.mask, inputs=rows.inputs)]

    def run(layer: int, heads: list[int], kept: slice) -> Tensor:
        if layer != held[0]:
            held[:] = [layer, model.resid_pre(layer, held[1], rows.mask, from_layer=held[0])]
        n = max(1, len(heads))
        many, padding = held[1].repeat(n, 1, 1), _repeated(rows.mask, n)
        return model.forward_from(layer, many, padding, keep=kept, edits=_edits(layer, heads, rows)).logits

    return run


def _whole(model: Any, rows: Rows) -> Run:
    """Where masks or positions follow the picture no forward can resume: rows run whole, picture and all."""

    def run(layer: int, heads: list[int], kept: slice) -> Tensor:
        n = max(1, len(heads))
        inputs = {k: _repeated(v, n) for k, v in rows.inputs.items()}
        return model.forward(
            rows.tokens.repeat(n, 1),
            _repeated(rows.mask, n),
            inputs=inputs,
            keep=kept,
            edits=_edits(layer, heads, rows),
        ).logits

    return run


def _edits(layer: int, heads: list[int], rows: Rows) -> list[Any] | None:
    return (
        None if not heads else [edit for edit in (mask([(layer, h)]) for h in heads) for _ in range(len(rows.tokens))]
    )


def _repeated(x: Tensor | None, n: int) -> Any:
    return None if x is None else x.repeat(n, *[1] * (x.dim() - 1))


def _cut(rows: Rows, stop: int, prompt: int) -> Rows:
    """Without the columns that no word needs."""
    whole = rows.tokens.shape
    stop = max(stop, prompt)
    inputs = {k: v[:, :stop] if v.shape[:2] == whole else v for k, v in rows.inputs.items()}
    mask = None if rows.mask is None or bool(rows.mask[:, :stop].all()) else rows.mask[:, :stop]
    return Rows(rows.tokens[:, :stop], mask, inputs, rows.predicting)


def _log_p(logits: Tensor, row: Tensor, column: Tensor, token: Tensor) -> Float[Tensor, " words"]:
    picked = logits[row, column]
    wide = picked.to(torch.promote_types(picked.dtype, torch.float32))
    return wide.log_softmax(-1).gather(1, token[:, None])[:, 0]


def _change(base: Float[Tensor, " words"], zeroed: Float[Tensor, "heads words"], measure: str) -> Tensor:
    if measure == "log":
        return (base - zeroed).double()
    change = (base.exp() - zeroed.exp()).double()
    return change.abs() if measure == "absolute" else change
