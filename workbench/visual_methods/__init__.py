"""Interventions that shall make a vision-language model invent less: one file each, found by scanning this package.

A method turns head scores, some pictures and a strength into edits of the one intervention language. Each has a grid of
strengths, so that it is judged as a curve, and a neutral strength at which the model is what it was.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from workbench.visual_methods.asked import Asked

CONTROLS = ("layers", "anywhere")
"""Random heads instead of a method's: as many in each of its layers, or as many in all of its layers together."""


@dataclass(frozen=True)
class VisualMethod:
    """One method.

    help: what it does, in one line. source: where it is published. strengths: from weak to strong, at least six; neutral:
    the strength that changes nothing; published: the published one, None where there is none. within: parts of the depth
    in which it works, as fractions; second: the second layer, too. needs: names of the head scores that it reads. heads:
    whether it chooses heads, so that random ones can stand in. beside: the method that does the same to all heads alike.
    edits: its rule. left_out: what of the source is not here.
    """

    name: str
    help: str
    source: str
    strengths: tuple[float, ...]
    neutral: float
    edits: Callable[[Asked], Any]
    published: float | None = None
    within: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    second: bool = False
    needs: tuple[str, ...] = ()
    heads: bool = False
    beside: str = ""
    left_out: str = ""

    def layers(self, n_layers: int) -> tuple[int, ...]:
        """Layers of a model whose middle lies in the method's parts of the depth."""
        inside = [i for i in range(n_layers) if any(a <= (i + 0.5) / n_layers < b for a, b in self.within)]
        return tuple(sorted({*inside, *((1,) if self.second and n_layers > 1 else ())}))


def discover() -> dict[str, VisualMethod]:
    """Methods by name, sorted. Raises RuntimeError if two modules claim one name."""
    found: dict[str, VisualMethod] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        method = getattr(importlib.import_module(module.name), "METHOD", None)
        if not isinstance(method, VisualMethod):
            continue
        if method.name in found:
            raise RuntimeError(f"{module.name} defines {method.name!r}, which is taken")
        found[method.name] = method
    return dict(sorted(found.items()))


def named(name: str) -> VisualMethod:
    """A method by name. Raises BadInput for an unknown one."""
    known = discover()
    if name not in known:
        raise BadInput(f"method={name}: no such method; use {', '.join(known)}.{did_you_mean(name, known)}")
    return known[name]


def method_edits(
    method: VisualMethod, pictures: Any, scores: Mapping[str, Any], strength: float, control: str = "", seed: int = 0
) -> Any:
    """The edits of a method at a strength: one intervention, or a list with one per picture; None at the neutral strength.

    pictures: `Pictures`, some pictures under one text. scores: HeadScores by name. control: random heads in the place of
    the method's, see `CONTROLS`. Raises BadInput for scores that are missing, and for a control of a method that chooses
    no heads; Unsupported where the model cannot be asked.
    """
    from workbench.visual_methods.asked import Asked

    if missing := [name for name in method.needs if name not in scores]:
        raise BadInput(
            f"{method.name} needs the head scores {', '.join(missing)}; given: {', '.join(scores) or 'none'}"
        )
    if control and (control not in CONTROLS or not method.heads):
        known = ", ".join(CONTROLS) if method.heads else "none, for it chooses no heads"
        raise BadInput(f"control={control}: {method.name} knows {known}")
    if strength == method.neutral:
        return None
    layers = method.layers(pictures.model.n_layers)
    return method.edits(Asked(pictures, scores, strength, layers, control, seed))
