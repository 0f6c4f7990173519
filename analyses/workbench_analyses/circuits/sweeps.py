"""One sweep: the effects of all heads on some receivers at a label, prompt by prompt, kept in the run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from workbench.circuits import Place
from workbench.models import Model
from workbench.patching import effects_of_paths
from workbench.runs import Remember
from workbench.tasks.circuit_prompts import CircuitPrompt, CircuitPrompts, circuit_rows
from workbench.tasks.spelling import END
from workbench_analyses.trace_circuit import TraceCircuit

LOGITS = "resid"
"""The channel of the stream behind the last block."""
CHANNELS = ("q", "k", "v")


@dataclass
class Sweeper:
    """Path effects in one model and task. What was computed once is not computed again, in this run or a later one."""

    config: TraceCircuit
    model: Model
    prompts: CircuitPrompts
    remember: Remember
    held: dict[str, np.ndarray] = field(default_factory=dict)

    def heads(
        self, receivers: Sequence[Place], channels: Sequence[str], label: str, n: int | None = None
    ) -> list[Float[np.ndarray, "n layers heads"]]:
        """Change of the logit difference by each head, by each channel of these receivers; of the first n prompts, or all.

        Prompts without the label have no such path: 0. Nor have those that differ behind it only (see `reaches`).
        """
        return self._effects("heads", receivers, channels, label, n)

    def whole(
        self, receivers: Sequence[Place], channels: Sequence[str], label: str, n: int | None = None
    ) -> list[Float[np.ndarray, " n"]]:
        """The same where the receivers get all of the corrupted run."""
        return self._effects("all", receivers, channels, label, n)

    def _effects(
        self, senders: Any, receivers: Sequence[Place], channels: Sequence[str], label: str, n: int | None
    ) -> list[Any]:
        count = len(self.prompts) if n is None else min(n, len(self.prompts))
        asked = [self._receivers(receivers, channel) for channel in channels]
        parts: list[list[np.ndarray]] = [[] for _ in channels]
        for start in range(0, count, self.config.batch):
            which = range(start, min(start + self.config.batch, count))
            together = cache(partial(self._chunk, senders, asked, label, which))
            for i, channel in enumerate(channels):
                named = json.dumps([senders, asked[i], label, which.start, which.stop])
                unit = f"{senders}-{channel}-{label}-{hashlib.sha256(named.encode()).hexdigest()[:12]}"
                if unit not in self.held:
                    arrays, _ = self.remember(unit, lambda i=i, each=together: ({"effects": each()[i]}, {}))
                    self.held[unit] = np.asarray(arrays["effects"])
                parts[i].append(self.held[unit])
        return [np.concatenate(one) for one in parts]

    def _receivers(self, heads: Sequence[Place], channel: str) -> Any:
        """k and v belong to key-value heads, which serve several query heads."""
        if channel == LOGITS:
            return "logits"
        group = self.model.n_heads // self.model.n_kv_heads if channel in ("k", "v") else 1
        return sorted({(channel, layer, head // group) for layer, head in heads})

    def _chunk(
        self, senders: Any, asked: Sequence[Any], label: str, which: range
    ) -> Float[np.ndarray, "paths b *senders"]:
        shape = (self.model.n_layers, self.model.n_heads) if senders == "heads" else ()
        out = np.zeros((len(asked), len(which), *shape))
        there = [i for i in which if reaches(self.prompts.prompts[i], label)]
        if there:
            rows = circuit_rows([self.prompts.prompts[i] for i in there]).to(self.model.device)
            mlps: Any = self.config.mlps  # one of MLPS, as the config has checked
            effects = effects_of_paths(
                self.model, rows.clean, rows.corrupted, rows.answers, asked, rows.at(label), mlps, senders, rows.mask,
                self.config.memory,
            )  # fmt: skip
            out[:, [i - which.start for i in there]] = torch.stack(effects).to(torch.float64).cpu().numpy()
        return out


def reaches(prompt: CircuitPrompt, label: str) -> bool:
    """Whether the corruption is felt at a label: whether anything up to there differs.

    A column with several labels belongs to END, from which the first stage starts, or else to the first of them, so
    that nothing is counted twice.
    """
    if label not in prompt.spans:
        return False
    stop = prompt.spans[label][1]
    here = [x for x, span in prompt.spans.items() if span[1] == stop]
    return label == (END if END in here else here[0]) and prompt.clean[:stop] != prompt.corrupted[:stop]
