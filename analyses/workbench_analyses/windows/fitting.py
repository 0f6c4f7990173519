"""Median output errors of every head under every window, on needles that the check does not ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.budget import in_parts
from workbench.models import Model
from workbench.simulation.cases import Batch, Case
from workbench.simulation.losing_reach import output_errors
from workbench.simulation.sizes import bytes_of_case
from workbench_analyses.fit_windows import FitWindows

READ = 64
"""Rows of a prompt that are looked at, spread over its last quarter: they see enough keys for any window to lose some."""


def rows_of(case: Case, kind: str) -> Int[np.ndarray, " r"]:
    """Positions whose errors count: those after which the answer's tokens are told, or rows of the prompt."""
    if kind == "told":
        last = len(case.tokens) - 1
        return np.arange(last - case.scored, last)
    return np.unique(np.linspace(0.75 * case.prefix, case.prefix - 1, READ).astype(int))


def median_errors(
    model: Model, asked: Sequence[Case], config: FitWindows, windows: tuple[int, ...],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Float[np.ndarray, "kinds layers heads windows"]:  # fmt: skip
    """Over rows of all prompts, for each kind of `config.at`; rows that tell an answer depth by depth, the worst counts.

    A median over all depths would give up the needles of half of them. asked: depths in turn, as `cases` makes them.
    """

    def some(which: slice) -> list[dict[str, np.ndarray]]:
        progress(which.start, len(asked))
        chunk = list(asked[which])
        own = [{kind: rows_of(case, kind) for kind in config.at} for case in chunk]
        every = [np.unique(np.concatenate(list(rows.values()))) for rows in own]
        errors = output_errors(model, Batch.of(chunk, model.device), _even(every, model), windows, config.sink)
        table = torch.stack([errors[layer] for layer in sorted(errors)]).cpu().numpy()  # [layers, b, h, r, w]
        return [
            {kind: table[:, i][:, :, np.searchsorted(every[i], wanted)] for kind, wanted in rows.items()}
            for i, rows in enumerate(own)
        ]

    parts = in_parts(model, "simulation", len(asked), bytes_of_case(model, asked), some, most=config.batch)
    found = {kind: [case[kind] for part in parts for case in part] for kind in config.at}
    progress(len(asked), len(asked))
    depths = {kind: len(config.depths) if kind == "told" else 1 for kind in found}
    return np.stack([_worst_median(cases, depths[kind]) for kind, cases in found.items()])


def _worst_median(parts: Sequence[Float[np.ndarray, "layers heads _ windows"]], turns: int) -> np.ndarray:
    """Median over the rows of every turns-th prompt; the greatest of these medians, [layers, heads, windows]."""
    groups = [parts[i::turns] for i in range(min(turns, len(parts)))]
    return np.max([np.median(np.concatenate(group, 2), 2) for group in groups], 0)


def _even(rows: Sequence[Int[np.ndarray, " r"]], model: Model) -> Int[Tensor, "b r"]:
    """As one table: the last row repeated where a prompt has fewer."""
    width = max(map(len, rows))
    return torch.tensor(np.stack([np.pad(r, (0, width - len(r)), mode="edge") for r in rows]), device=model.device)
