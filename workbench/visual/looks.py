"""What each head looked at in a picture as each word about it was written: the maps that are laid over pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from workbench_kernels import Reductions

from workbench.errors import BadInput
from workbench.masks import CompactMask
from workbench.observation import observing
from workbench.positions import rows_index, spans_index
from workbench.probes.probe import Found, Probe
from workbench.tasks.object_words import Words, object_words
from workbench.visual.grids import Grid, grids
from workbench.visual.told import Told
from workbench.visual.words import text_of

LEVELS = 255
"""Steps of a map; the top one is the map's largest weight."""


@dataclass(frozen=True)
class Said:
    """A word as it stands in a text. object: what it names. invented: that is not in the picture; None: not known."""

    text: str
    object: str = ""
    invented: bool | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Looks:
    """Attention on one picture, word by word: at the rows that predict a word's tokens, their mean.

    name: of the picture. pixels: as it was given. levels: of each view in `grids`, in 255ths of `tops`, the largest weight
    of the word and head over all views; layers without softmax attention are NaN there. mass: on all of the picture's
    placeholders, from 0 to 1.
    """

    name: str
    pixels: UInt8[np.ndarray, "y x 3"]
    words: tuple[Said, ...]
    grids: tuple[Grid, ...]
    levels: tuple[UInt8[np.ndarray, "words layers heads rows columns"], ...]
    tops: Float[np.ndarray, "words layers heads"]
    mass: Float[np.ndarray, "words layers heads"]

    @property
    def text(self) -> str:
        """The words, a space between them."""
        return " ".join(word.text for word in self.words)

    def __repr__(self) -> str:
        views = ", ".join(f"{g.name} {g.columns.shape[0]} × {g.columns.shape[1]}" for g in self.grids)
        return (
            f"Looks({self.name}: {len(self.words)} words, {' × '.join(map(str, self.mass.shape[1:]))} heads, {views})"
        )

    def weights(self, view: int = 0) -> Float[np.ndarray, "words layers heads rows columns"]:
        """The maps of a view as attention weights, right to a 510th of their largest."""
        return self.levels[view] / LEVELS * self.tops[..., None, None]


@torch.no_grad()
def look_at(
    model: Any,
    told: Told,
    pictures: Sequence[Any],
    objects: Sequence[Iterable[str]] | None = None,
    names: Sequence[str] | None = None,
    edits: Any = None,
    words: Words | None = None,
) -> list[Looks]:
    """What heads looked at in each picture of `told`: one forward over prompts and captions, no N×N anywhere.

    pictures: one a row, PIL images or arrays [y, x, 3] of 0 to 255. objects: what each shows, by words of the table
    (COCO's if not given), to mark what captions invent. edits: see `Model.forward`; decoding begins behind the prompt.

    Raises BadInput where there is not one of each a row; what `grids` raises where places are not known; TooLarge, with
    the size, for more maps than fit: give fewer captions at a time.
    """
    count = len(told.said)
    shown = [_pixels(p) for p in pictures]
    for what, given in (("pictures", shown), ("sets of objects", objects), ("names", names)):
        if given is not None and len(given) != count:
            raise BadInput(f"{len(given)} {what} for {count} captions")
    views = [tuple(grids(model, told.some([i]).prompt, p.shape[:2])) for i, p in enumerate(shown)]
    texts = [
        sentence(
            model.tokenizer,
            told.said[i, : int(told.length[i])].tolist(),
            None if objects is None else objects[i],
            words,
        )
        for i in range(count)
    ]
    found = _observed(model, told, [parts for _, parts in texts], edits)
    return [
        _looks(names[i] if names else f"picture {i + 1}", shown[i], texts[i][0], views[i], told.columns[i], found, i)
        for i in range(count)
    ]


def sentence(
    tokenizer: Any, ids: Sequence[int], there: Iterable[str] | None = None, words: Words | None = None
) -> tuple[list[Said], list[list[int]]]:
    """The words of a caption, as they are parted by spaces, and the tokens of each; tokens without text have none.

    there: what the picture shows; None: not known. Raises BadInput for an object that is not in the table.
    """
    words, text = words or object_words(), text_of(tokenizer, ids)
    unknown = sorted(set(there or ()) - words.objects.keys())
    if unknown:
        raise BadInput(f"{unknown[0]!r} is no word of the table of objects")
    shown = None if there is None else {words.objects[w] for w in there}
    ends = [len(text_of(tokenizer, ids[: i + 1])) for i in range(len(ids))]
    mentions, said, parts = words.mentions(text), [], []
    for word in re.finditer(r"\S+", text):
        start, end = word.span()
        of = [i for i, (a, b) in enumerate(zip([0, *ends], ends, strict=False)) if a < end and b > start and a < b]
        named = next((m.object for m in mentions if m.start < end and m.end > start), "")
        said.append(Said(word.group(), named, named not in shown if named and shown is not None else None))
        parts.append(of)
    return said, parts


def _observed(model: Any, told: Told, parts: list[list[list[int]]], edits: Any) -> dict[str, Tensor]:
    """levels, [layers, b, heads, words, parts of the picture], tops and mass, [layers, b, heads, words]."""
    rows, steps = told.seen(), told.said.shape[1]
    share = torch.zeros(len(parts), max(1, *map(len, parts)), steps)
    for i, words in enumerate(parts):
        for j, tokens in enumerate(words):
            share[i, j, tokens] = 1 / max(1, len(tokens))
    spans = [[(c, c + 1) for c in row] for row in told.columns]
    probe = _maps(spans, rows.predicting.tolist(), share)
    last = rows.tokens.shape[1] - 1
    with observing(model, [probe]) as found:
        model.forward(
            rows.tokens, rows.mask, inputs=rows.inputs, edits=edits, decode_from=[told.prompt.tokens.shape[1] - 1],
            keep=slice(last, last + 1),
        )  # fmt: skip
    return found["looks"]


def _maps(spans: list[list[tuple[int, int]]], rows: list[list[int]], share: Float[Tensor, "b words t"]) -> Probe:
    """A probe that keeps a byte of each weight. share: of each token in each word."""

    def read(s: Any, mask: CompactMask) -> Found:
        weights = torch.einsum("bwt,bhtp->bhwp", share.to(s.mass.device), s.mass.float())
        top = weights.amax(-1)
        levels = (weights * (LEVELS / top.clamp_min(1e-30))[..., None]).round().to(torch.uint8)
        return {"levels": levels, "tops": top, "mass": weights.sum(-1)}

    return Probe(
        "looks", asks=lambda mask: Reductions(rows=rows_index(rows, mask), spans=spans_index(spans, mask)), reads=read,
        gathers=dict,
    )  # fmt: skip


def _looks(
    name: str, pixels: np.ndarray, said: list[Said], views: tuple[Grid, ...], columns: list[int],
    found: dict[str, Tensor], row: int,
) -> Looks:  # fmt: skip
    place = {column: i for i, column in enumerate(columns)}
    of_word = {k: v[:, row, :, : len(said)].movedim(2, 0).cpu().numpy() for k, v in found.items()}
    levels = np.nan_to_num(of_word["levels"]).astype(np.uint8)  # [words, layers, heads, parts]
    maps = tuple(
        levels[..., [place[c] for c in grid.columns.ravel()]].reshape(*levels.shape[:3], *grid.columns.shape)
        for grid in views
    )
    return Looks(name, pixels, tuple(said), views, maps, of_word["tops"], of_word["mass"])


def _pixels(picture: Any) -> UInt8[np.ndarray, "y x 3"]:
    given = np.asarray(picture.convert("RGB") if hasattr(picture, "convert") else picture)
    if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8:
        raise BadInput(f"a picture is {given.shape} of {given.dtype}: give a PIL image or bytes [y, x, 3]")
    return given
