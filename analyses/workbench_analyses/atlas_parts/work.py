"""What every step of an atlas needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.heads import ModelIdentity
from workbench.models import Model
from workbench.progress import Stages
from workbench.runs import Remember
from workbench_analyses.atlas import Atlas


@dataclass
class Work:
    """What every step needs; prefix tells the units of a second model from those of the first."""

    config: Atlas
    model: Model
    identity: ModelIdentity
    remember: Remember
    stages: Stages
    prefix: str = ""

    def unit(self, name: str, work: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of a unit of work, done now or in an earlier session."""
        return dict(self.remember(self.prefix + name, lambda: (work(), {}))[0])


def word(model: Model, token: int) -> str:
    """A token as text; one that decodes to nothing by its name in the vocabulary."""
    return str(model.tokenizer.decode([token])) or str(model.tokenizer.convert_ids_to_tokens(token))
