"""PAINT: parts of the picture that stand out to the vision tower are raised, local ones more than summary ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import Unsupported
from workbench.interventions import Intervention, pai
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.amplify import WITHIN
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.vision_tower import vision_layers

LOCAL, BETA = 0.25, 0.4 / 0.7
"""Share of the parts that are local; β over α."""


def local(attention: Float[np.ndarray, " parts"]) -> tuple[int, ...]:
    """The quarter of the parts that the class token looks at most, the earlier of equal ones."""
    k = max(1, round(LOCAL * len(attention)))
    return tuple(sorted(int(i) for i in np.argsort(-attention, kind="stable")[:k]))


def summary(attention: Float[np.ndarray, " parts"]) -> tuple[int, ...]:
    """Parts above Q3 + 1.5 · (Q3 − Q1) (Tukey's outliers)."""
    low, high = np.quantile(attention, [0.25, 0.75])
    return tuple(int(i) for i in np.flatnonzero(attention > high + 1.5 * (high - low)))


def parts(asked: Asked) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Columns of local and of summary parts, picture by picture; what is both is local.

    Raises Unsupported where the first and the second-to-last vision layer are the same, or do not see the picture's parts.
    """
    pictures = asked.pictures
    if (n := vision_layers(pictures.model)) < 3:
        raise Unsupported(
            f"{pictures.model.name}: its vision tower has {n} layers; the first and the second-to-last must be two"
        )
    near, far = (pictures.class_attention[layer].double().cpu().numpy() for layer in (0, n - 2))
    if len(near) != len(pictures) or any(len(columns) != near.shape[1] for columns in pictures.parts):
        raise Unsupported(f"{pictures.model.name}: parts of its pictures are not those that its vision tower sees")
    out = []
    for columns, a, b in zip(pictures.parts, near, far, strict=True):
        first = local(a)
        second = tuple(i for i in summary(b) if i not in first)
        out.append((tuple(columns[i] for i in first), tuple(columns[i] for i in second)))
    return out


def edits(asked: Asked) -> list[Any]:
    """The strength is α on local parts; summary parts have β = 0.57 α."""
    heads, out = asked.heads, []
    for near, far in parts(asked):
        edit = Intervention((pai(heads, near, asked.strength, at="decode"),))
        out.append(edit + pai(heads, far, BETA * asked.strength, at="decode") if far else edit)
    return out


METHOD = VisualMethod(
    name="two-strength",
    help="PAINT: as PAI, on parts that the vision tower's class token looks at, early and late ones apart",
    source="arXiv 2501.12206 (Fixing Imbalanced Attention)",
    strengths=(0.2, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0),
    neutral=0.0,
    edits=edits,
    published=0.7,
    within=WITHIN,
)
