"""Can the model do the task at all, and does the corruption change its answer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from workbench.errors import BadInput
from workbench.models import Model
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows

CHANCE = 0.5
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Behaviour:
    """clean, corrupted: logit of the answer less that of the foil. right: the answer beats every other token."""

    clean: Float[np.ndarray, " n"]
    corrupted: Float[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]

    @property
    def accuracy(self) -> float:
        """Share of clean prompts answered right, over the whole vocabulary."""
        return float(self.right.mean())

    @property
    def preferred(self) -> float:
        """Share of clean prompts where the answer beats its foil."""
        return float((self.clean > 0).mean())

    @property
    def gaps(self) -> Float[np.ndarray, " n"]:
        """What the corruption changes."""
        return self.corrupted - self.clean

    def words(self) -> str:
        """In a line."""
        n = len(self.clean)
        return (
            f"{self.accuracy:.1%} of {n} prompts answered right over the whole vocabulary, the answer preferred to its "
            f"foil in {self.preferred:.1%}, mean logit difference {self.clean.mean():.2f}, corrupted "
            f"{self.corrupted.mean():.2f}"
        )


@torch.no_grad()
def behaviour(model: Model, prompts: Sequence[CircuitPrompt], batch: int) -> Behaviour:
    """Ask all prompts, clean and corrupted."""
    found: dict[str, list[np.ndarray]] = {"clean": [], "corrupted": [], "right": []}
    for start in range(0, len(prompts), batch):
        rows = circuit_rows(prompts[start : start + batch]).to(model.device)
        end = rows.clean.shape[1]
        for name in ("clean", "corrupted"):
            logits = model.forward(getattr(rows, name), rows.mask, keep=slice(end - 1, end)).logits[:, -1]
            answer, foil = logits.gather(1, rows.answers).double().T
            found[name].append((answer - foil).cpu().numpy())
            if name == "clean":
                found["right"].append((logits.argmax(-1) == rows.answers[:, 0]).cpu().numpy())
    return Behaviour(**{name: np.concatenate(parts) for name, parts in found.items()})


def check_behaviour(found: Behaviour, model: str, task: str, force: bool) -> None:
    """Raises BadInput where there is nothing to trace: the model cannot do the task (unless forced), or the corruption
    changes nothing."""
    from scipy.stats import binomtest

    n = len(found.clean)
    if not float(np.abs(found.gaps).max()) > 1e-6:
        raise BadInput(f"task={task}: the corruption changes no answer of {model}, so nothing can be traced")
    p = binomtest(int((found.clean > 0).sum()), n, CHANCE, alternative="greater").pvalue
    if p > LEVEL and not force:
        raise BadInput(
            f"{model} cannot do task={task} ({found.words()}; chance {CHANCE:.0%}, p = {p:.2g}): no circuit to trace; "
            "force=true goes on"
        )
    spread = found.gaps.std(ddof=1) / np.sqrt(n)
    if abs(found.gaps.mean()) <= 2 * spread and not force:
        raise BadInput(
            f"task={task}: the corruption is not shown to change the mean logit difference of {model} "
            f"({found.gaps.mean():+.3f} ± {2 * spread:.3f}): shares of it mean nothing; force=true goes on"
        )
