"""The model on the prompts of a task with only some heads at work; what was run once is not run again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from jaxtyping import Float

from workbench.bootstrap import resampled_means
from workbench.circuits import Place
from workbench.errors import BadInput
from workbench.models import Model
from workbench.patching import MeanOutputs, head_sets, kept_differences, mean_outputs
from workbench.patching.replacements import How
from workbench.runs import Remember, unremembered
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows

DRAWS = 2000
REFERENCE = 5
"""Reference prompts that each template needs: the mean of one corrupted prompt is that prompt."""
FAINT = 1e-6
"""Logits that all heads together must move."""


@dataclass
class Ablated:
    """Logit differences of head sets, prompt by prompt; heads outside a set are ablated as `how` says.

    whole: of the model as it is. nothing: with every head ablated; MLPs are live and embeddings clean, so this need not
    be what the corrupted prompt gives.
    """

    model: Model
    prompts: Sequence[CircuitPrompt]
    how: How
    means: MeanOutputs | None
    memory: int | str | None
    whole: Float[np.ndarray, " n"]
    nothing: Float[np.ndarray, " n"]
    remember: Remember = field(default=unremembered, repr=False)
    held: dict[tuple[Place, ...], Float[np.ndarray, " n"]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, model: Model, prompts: Sequence[CircuitPrompt], how: How = "resample",
        reference: Sequence[CircuitPrompt] | None = None, memory: int | str | None = None, remember: Remember = unremembered,
    ) -> Self:  # fmt: skip
        """reference: prompts over whose corrupted sides "mean" averages; these if None (see `kept_differences`).
        remember: of a run folder whose question fixes model, prompts and `how`.

        Raises BadInput for a template with fewer than REFERENCE reference prompts, and where the heads make no difference,
        so that no share of it can be said.
        """
        means = mean_outputs(model, prompts if reference is None else reference, memory) if how == "mean" else None
        few = [(n, t) for t, n in (means.n if means else {}).items() if n < REFERENCE]
        if few:
            n, template = min(few)
            raise BadInput(
                f"mean of {n} prompts for {template!r}: give {REFERENCE} or more reference prompts of each template"
            )
        empty = head_sets(model, [()])
        nothing = _numpy(kept_differences(model, prompts, empty, how, means, memory))[0]
        out = cls(model, prompts, how, means, memory, plain_differences(model, prompts), nothing, remember)
        if not abs(out.gap) > FAINT:
            raise BadInput(f"ablating all heads ({how}) changes the mean logit difference by {out.gap:g}: no circuit")
        return out

    def __call__(self, lists: Sequence[Sequence[Place]]) -> Float[np.ndarray, "sets n"]:
        """Differences with only the heads of each list kept. Raises BadInput like `kept_differences`."""
        keys = [tuple(sorted(set(heads))) for heads in lists]
        new = [key for key in dict.fromkeys(keys) if key not in self.held]
        if new:
            unit = f"kept-{hashlib.sha256(repr(new).encode()).hexdigest()[:12]}"
            found = self.remember(unit, lambda: ({"differences": self._run(new)}, {}))[0]["differences"]
            self.held |= dict(zip(new, np.asarray(found), strict=True))
        return np.stack([self.held[key] for key in keys]) if keys else np.zeros((0, len(self.prompts)))

    def _run(self, lists: Sequence[Sequence[Place]]) -> Float[np.ndarray, "sets n"]:
        keep = head_sets(self.model, lists)
        return _numpy(kept_differences(self.model, self.prompts, keep, self.how, self.means, self.memory))

    @property
    def gap(self) -> float:
        """What all heads together do for the mean logit difference."""
        return float((self.whole - self.nothing).mean())

    @property
    def heads(self) -> tuple[Place, ...]:
        """All heads of the model."""
        return tuple((i, j) for i in range(self.model.n_layers) for j in range(self.model.n_heads))

    def without(self, gone: Sequence[Place]) -> tuple[Place, ...]:
        """All heads but some."""
        return tuple(h for h in self.heads if h not in set(gone))

    def shares(self, differences: Float[np.ndarray, "*sets n"]) -> Float[np.ndarray, "*sets"]:
        """Faithfulness (m(C) − m(∅)) / (m(M) − m(∅)), a ratio of means over prompts."""
        return (differences - self.nothing).mean(-1) / self.gap

    def resampled_shares(
        self, differences: Float[np.ndarray, "sets n"], seed: int, draws: int = DRAWS
    ) -> Float[np.ndarray, "draws sets"]:
        """The same for bootstrap samples of the prompts; NaN with fewer than two prompts."""
        columns = np.concatenate([differences - self.nothing, (self.whole - self.nothing)[None]]).T
        means = resampled_means(columns, None, draws, seed)
        return np.full((draws, len(differences)), np.nan) if means is None else means[:, :-1] / means[:, -1:]


@torch.no_grad()
def plain_differences(model: Model, prompts: Sequence[CircuitPrompt], at_once: int = 32) -> Float[np.ndarray, " n"]:
    """Logit differences of the clean prompts as the model runs, without any hook."""
    out = []
    for start in range(0, len(prompts), at_once):
        rows = circuit_rows(prompts[start : start + at_once]).to(model.device)
        end = rows.clean.shape[1]
        logits = model.forward(rows.clean, rows.mask, keep=slice(end - 1, end)).logits[:, -1]
        first, foil = logits.gather(1, rows.answers).double().T
        out.append((first - foil).cpu().numpy())
    return np.concatenate(out)


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.double().cpu().numpy()
