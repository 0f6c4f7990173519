"""Sliders over an intervention: how strong, in how many heads; the text, the logits and the attention that follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import interventions
from workbench.errors import BadInput
from workbench.head_sets import Head, HeadSet
from workbench.live.widget import live
from workbench.observation import observing
from workbench.probes import top_keys
from workbench.views.steer_view import SteerView
from workbench.views.text import visible

Edit = Callable[[Sequence[Head], float], Any]
"""From heads and a strength to an intervention."""
READ = 64
"""Largest weights kept of the row that is compared."""


@dataclass(frozen=True, eq=False)
class Steering:
    """Runs an edit of the first `count` heads at a strength and compares with the unedited model."""

    model: Any
    ids: Int[Tensor, "1 n"]
    heads: tuple[Head, ...]
    edit: Edit
    new_tokens: int = 8
    rows: int = 8

    def answer(self, strength: float, count: int) -> dict[str, Any]:
        """Text, next-token logits (highest of either) and attention of the last token, unchanged and edited.

        Attention is the mean over the `count` heads (over all of them where it is 0). Raises BadInput outside the list.
        """
        if not 0 <= count <= len(self.heads):
            raise BadInput(f"{count} heads: the list has {len(self.heads)}")
        start = time.perf_counter()
        edits = self.edit(self.heads[:count], strength) if count else None
        text, logits, weights = self._run(edits)
        old_text, old_logits, old_weights = self._unedited
        some = self.heads[:count] or self.heads
        before, after = _mean(old_weights, some), _mean(weights, some)
        shown = {int(i) for row in (old_logits, logits) for i in row.topk(self.rows // 2).indices}
        best = sorted(shown, key=lambda i: -logits[i])
        keys = sorted({*before, *after}, key=lambda k: -max(before.get(k, 0), after.get(k, 0)))[: self.rows]
        return {
            "before": old_text, "after": text, "strength": strength, "count": count,
            "logits": [[self._word(i), float(old_logits[i]), float(logits[i])] for i in best],
            "attention": [[k, self._word(self.ids[0, k]), before.get(k, 0.0), after.get(k, 0.0)] for k in keys],
            "read": f"Last token reads (mean of {len(some)} heads)",
            "ms": round(1000 * (time.perf_counter() - start)),
        }  # fmt: skip

    @cached_property
    def _unedited(self) -> Any:
        return self._run(None)

    @torch.no_grad()
    def _run(self, edits: Any) -> tuple[list[str], Tensor, Any]:
        last = slice(self.ids.shape[1] - 1, self.ids.shape[1])
        k = min(READ, self.ids.shape[1])
        with observing(self.model, [top_keys(k, rows=(-1,))]) as found:
            logits = self.model.forward(self.ids, edits=edits, keep=last).logits[0, -1].float().cpu()
        new = self.model.generate(self.ids, self.new_tokens, edits=edits)[0]
        return [self._word(i) for i in new], logits, found["top_keys"]

    def _word(self, token: Any) -> str:
        return visible(str(self.model.tokenizer.decode([int(token)])))


def steer(
    model: Any,
    prompt: str,
    heads: HeadSet | Sequence[tuple[int, int]],
    edit: Edit = interventions.scale,
    strength: tuple[float, float, float] = (0.0, 2.0, 1.0),
    new_tokens: int = 8,
) -> Any:
    """Two sliders over `edit(heads[:count], strength)`: the strength, and how many heads of the list it takes.

    strength: (lowest, highest, first) of the slider. The default multiplies the outputs of the heads: 0 masks them, 1
    leaves them. `edit=lambda heads, x: wb.suppress(heads, …, x)` takes any other. While a run is under way only the newest
    position waits. Raises BadInput for an empty list or an empty prompt, Unsupported without anywidget.
    """
    found = HeadSet(tuple(Head(*h) for h in heads)).heads
    if not found or not prompt:
        raise BadInput("steer: give a prompt, and at least one head")
    steering = Steering(model, model.tokens(prompt), found, edit, new_tokens)
    view = SteerView(steering.answer(strength[2], len(found)), [str(h) for h in found], strength)
    run = lambda asked: (steering.answer(float(asked["strength"]), int(asked["count"])), None)  # noqa: E731
    return live(view.html(), view.static(), {"run": run})


def _mean(top: Any, heads: Sequence[Head]) -> Mapping[int, float]:
    """Weight by key, the mean over heads of their largest weights."""
    out: dict[int, float] = {}
    for layer, head in heads:
        for w, key in zip(top.values[layer, 0, head, 0].tolist(), top.indices[layer, 0, head, 0].tolist(), strict=True):
            if w > 0:
                out[key] = out.get(key, 0.0) + w / len(heads)
    return out
