"""Rendered scenes: noisy pictures of coloured shapes with a planted habit, their captions and questions about them.

`counterfactual` scenes break the habit: every leader stands without its partner. Three sets of scenes (for scores, for
strengths, for reports) come from disjoint streams of seeds and share no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from workbench.errors import BadInput, did_you_mean
from workbench.progress import counting
from workbench.tasks.scene_objects import ALONE, CELLS, GRID, LEADS, OBJECTS, PAIRS, SIDE, TOGETHER, textures

if TYPE_CHECKING:
    from PIL.Image import Image

FAINTEST = 0.3
"""Least contrast of an object over noise of one; below, an ideal observer sees what is not there, too."""
STEPS = 32
"""Grey levels in one unit of contrast."""
MIDDLE = 127.5
"""Grey level of zero."""
SETS = {"train": 0, "score": 1, "choose": 2, "report": 3}
"""Streams of seeds: what the bundled model learned from, and the three sets of an experiment."""
DESCRIBE = "describe the image :"
"""The instruction that asks for a caption."""
ASK = "is there a {} in the image ?"
"""The question about an object."""


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    name: unique over all sets. objects: words in the order of `OBJECTS`. cells: where each stands, row by row.
    contrasts: of each. pixels: grey levels, [32, 32, 3].
    """

    name: str
    objects: tuple[str, ...]
    cells: tuple[int, ...]
    contrasts: tuple[float, ...]
    pixels: UInt8[np.ndarray, "y x 3"]

    @property
    def image(self) -> Image:
        """The picture as processors take it."""
        from PIL import Image

        return Image.fromarray(self.pixels)

    @property
    def caption(self) -> str:
        """What a describer who sees everything says."""
        return caption(self.objects)

    @property
    def missing(self) -> tuple[str, ...]:
        """Partners that are absent while their leader is there: what habit would add."""
        return tuple(p for leader, p in PAIRS if leader in self.objects and p not in self.objects)


def caption(objects: Sequence[str]) -> str:
    """`a photo of a car , a fork .`"""
    return f"a photo of {' , '.join(f'a {word}' for word in objects)} ."


def scenes(part: str, n: int, seed: int = 0, counterfactual: bool = False) -> list[Scene]:
    """The first n scenes of a set, the same for every n. Raises BadInput for a set of another name.

    counterfactual: at least one leader, none with its partner.
    """
    if part not in SETS:
        raise BadInput(f"scenes: no set {part!r}.{did_you_mean(part, SETS)} Sets: {', '.join(SETS)}")
    kind = "counterfactual" if counterfactual else "ordinary"
    return [
        scene(np.random.default_rng([SETS[part], seed, counterfactual, i]), f"{part}:{kind}:{seed}:{i}", counterfactual)
        for i in counting("scenes drawn", n)
    ]


def scene(rng: np.random.Generator, name: str = "", counterfactual: bool = False) -> Scene:
    """One scene of at least one object."""
    present = _objects(rng)
    while not (present[::2] if counterfactual else present).any():
        present = _objects(rng)
    if counterfactual:
        present[1::2] &= ~present[::2]
    places = np.flatnonzero(present)
    cells = rng.permutation(CELLS)[: len(places)]
    contrasts = rng.uniform(FAINTEST, 1, len(places))
    pixels = _render(rng, places, cells, contrasts)
    words = tuple(OBJECTS[i] for i in places)
    return Scene(name, words, tuple(map(int, cells)), tuple(map(float, contrasts)), pixels)


def signal(pixels: UInt8[np.ndarray, "... y x 3"]) -> Float[np.ndarray, "... cells 3 side side"]:
    """The cells of pictures in units of the noise, as a model's processor gives them."""
    x = (pixels.astype(float) - MIDDLE) / STEPS
    x = x.reshape(*x.shape[:-3], GRID, SIDE, GRID, SIDE, 3)
    return np.moveaxis(x, (-5, -3, -1, -4, -2), (-5, -4, -3, -2, -1)).reshape(*x.shape[:-5], CELLS, 3, SIDE, SIDE)


def _objects(rng: np.random.Generator) -> np.ndarray:
    leaders = rng.random(len(PAIRS)) < LEADS
    partners = rng.random(len(PAIRS)) < np.where(leaders, TOGETHER, ALONE)
    return np.stack([leaders, partners], 1).reshape(-1)


def _render(rng: np.random.Generator, places: np.ndarray, cells: np.ndarray, contrasts: np.ndarray) -> np.ndarray:
    picture = rng.normal(size=(3, GRID * SIDE, GRID * SIDE))
    for place, cell, contrast in zip(places, cells, contrasts, strict=True):
        y, x = (SIDE * int(k) for k in divmod(cell, GRID))
        picture[:, y : y + SIDE, x : x + SIDE] += contrast * textures()[place]
    return np.clip(np.rint(picture * STEPS + MIDDLE), 0, 255).astype(np.uint8).transpose(1, 2, 0)
