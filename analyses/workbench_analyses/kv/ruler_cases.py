"""Rows of RULER as cases: generated or the user's, with what the full cache says to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int

from workbench.budget import in_parts
from workbench.errors import BadInput
from workbench.footprint import cache_bytes, forward_bytes
from workbench.models import Model
from workbench.runs import Remember
from workbench.simulation.cases import Case, of_row
from workbench.tasks.assembling import Assembler
from workbench.tasks.ruler import Row, read_rows
from workbench.tasks.ruler_needles import TASKS, generate_rows
from workbench_analyses.kv_policies import Simulate

SEED = 70_000
OWN = ("needle", "prose")
"""Kinds of cases that every simulation asks."""


def rows_asked(config: Simulate, model: Model, assembler: Assembler) -> dict[str, list[Row]]:
    """Rows by task. Raises BadInput for prompts that the model does not take, or whose question is needed and unknown.

    So it does for rows of a name that others here have: they would be pooled.
    """
    rows = [] if config.ruler is None else read_rows(config.ruler)
    _check_names(config, {row.task for row in rows})
    for kind in config.kinds:
        rows += generate_rows(assembler, kind, config.context, config.rows, config.seed + SEED, config.haystack)
    out: dict[str, list[Row]] = {}
    for row in rows:
        prompt = row.tokens(assembler)[0]
        if len(prompt) + row.new_tokens > model.context:
            raise BadInput(f"{row.task} {row.index}: {len(prompt)} tokens; {model.name} takes {model.context}")
        of_row(row, assembler, [0], config.question == "seen")
        out.setdefault(row.task, []).append(row)
    return out


def _check_names(config: Simulate, given: set[str]) -> None:
    if taken := sorted(given & set(OWN)):
        raise BadInput(f"ruler={config.ruler}: rows of the task {taken[0]}, a name that is taken here: rename it")
    if taken := sorted(given & {TASKS[kind] for kind in config.kinds}):
        raise BadInput(
            f"ruler={config.ruler}: rows of the task {taken[0]}, which is generated too: use tasks=none, or rename it"
        )


def answered(
    config: Simulate, model: Model, assembler: Assembler, rows: dict[str, list[Row]], remember: Remember
) -> dict[str, list[Case]]:
    """Cases by task: prompts, and behind them the full cache's greedy answers, which are found once a run."""
    out: dict[str, list[Case]] = {}
    for task, group in rows.items():
        out[task] = []
        for i in range(0, len(group), config.batch):
            some = group[i : i + config.batch]
            arrays, _ = remember(
                f"answers-{task}-{i}-{config.batch}", lambda r=some: (_answers(model, assembler, r), {})
            )
            for row, said in zip(some, arrays["tokens"].tolist(), strict=True):
                answer = [token for token in said if token >= 0]
                out[task].append(of_row(row, assembler, answer, config.question == "seen"))
    return out


def _answers(model: Model, assembler: Assembler, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Greedy answers as ids, each up to and with the token that ends a text; −1 behind them."""
    width, most = max(len(row.tokens(assembler)[0]) for row in rows), max(row.new_tokens for row in rows)
    each = forward_bytes(model, width) + 2 * cache_bytes(model, width + most)
    parts = in_parts(
        model, "answers", len(rows), each, lambda some: _answered(model, assembler, rows[some], most)
    )  # fmt: skip
    return {"tokens": np.concatenate(parts)}


def _answered(model: Model, assembler: Assembler, rows: Sequence[Row], most: int) -> Int[np.ndarray, "rows most"]:
    prompts = [row.tokens(assembler)[0] for row in rows]
    width, ends = max(map(len, prompts)), set(model.stop_tokens)
    left = [(width - len(p)) * [0] for p in prompts]
    tokens = torch.tensor([[*pad, *p] for pad, p in zip(left, prompts, strict=True)], device=model.device)
    there = torch.tensor([[*pad, *[1] * len(p)] for pad, p in zip(left, prompts, strict=True)], device=model.device)
    said = model.generate(tokens, most, attention_mask=there.bool()).cpu().numpy()
    out = np.full((len(rows), most), -1, dtype=np.int64)
    for i, (row, own) in enumerate(zip(rows, said.tolist(), strict=True)):
        stop = next((j + 1 for j, token in enumerate(own) if token in ends), len(own))
        keep = min(stop, row.new_tokens)
        out[i, :keep] = own[:keep]
    return out
