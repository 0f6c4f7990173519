"""`workbench train-reference`: train a bundled model again by its recipe, in your own folder."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chz

from workbench import atomic
from workbench.command import Command
from workbench.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from workbench.reference_models.recipes.training import Training

TRAINED = ("llama", "gpt2", "sink-llama", "llava")
"""Models whose recipe is the module of their name."""


@chz.chz
class TrainReference:
    """Which model, from which seed, where to; the same command goes on after a stop."""

    model: str = chz.field(default="llama", doc=f"one of: {', '.join(TRAINED)}")
    out: str = chz.field(doc="folder for the phases; the last one is the model")
    seed: int = chz.field(default=0, doc="0 is the shipped model's; other seeds put the heads elsewhere")

    @chz.validate
    def _known(self) -> None:
        if self.model not in TRAINED:
            known = ", ".join(TRAINED)
            raise BadInput(f"model={self.model}: no recipe.{did_you_mean(self.model, TRAINED)} Recipes: {known}")


@dataclass(frozen=True)
class Trained:
    """Where the model lies, and what it took."""

    folder: Path
    seconds: float

    def __rich__(self) -> Any:
        """Two lines: the folder, and what to do with it."""
        from rich.text import Text

        return Text(f"{self.folder} ({self.seconds:.0f} s)\nworkbench scan-heads model={self.folder}")

    def summary(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"folder": str(self.folder), "seconds": self.seconds}


def run(config: TrainReference) -> Trained:
    """Train all phases; finished ones are kept, a stopped one goes on from its last checkpoint."""
    from workbench.progress import progress

    recipe = importlib.import_module(f"workbench.reference_models.recipes.{config.model.replace('-', '_')}")
    folder, started = Path(config.out), time.perf_counter()
    try:
        atomic.make_folders(folder)
    except OSError as error:
        raise BadInput(f"out={config.out}: cannot be written ({error.strerror})") from None
    with progress() as stages:
        reports = [stages.stage(f"phase {i}") for i in range(1, len(recipe.PHASES) + 1)]

        def tell(phase: int, training: Training) -> None:
            reports[phase](training.total, training.most_steps)

        last = recipe.train_all(folder, tell, config.seed)
    return Trained(last, time.perf_counter() - started)


COMMAND = Command("train-reference", "train a bundled model again by its recipe", TrainReference, run)
