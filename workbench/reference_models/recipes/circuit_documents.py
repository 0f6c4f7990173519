"""Training documents of the `gpt2` reference model: spans repeated and turned round, IOI, Colored Objects, prose.

Everything stands at varying offsets: rows begin with a stretch of prose of any length, hold several documents, and
sentences are broken by asides of varying length, so that a fixed distance finds nothing. Names and colours in asides
and in other documents are there to be passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from workbench.reference_models.recipes import circuit_words as w
from workbench.tasks import colored_objects, ioi

TEMPLATE, PROSE, RANDOM, REPEATED, REVERSED, INDIRECT, COLOUR, PADDING, TOLD = range(9)
LOSS_WEIGHT = (0.1, 0.2, 0.02, 1.0, 1.0, 4.0, 4.0, 0.0, 2.0)
"""Loss weight by token class."""

Row = list[tuple[str, int]]  # words and their classes


@dataclass(frozen=True)
class Mix:
    """What a row's documents are drawn from; the rest is prose."""

    repeat: float
    reverse: float
    ioi: float
    colours: float
    items: tuple[int, int] = (2, 2)  # things in a question
    shown: float = 0.0  # share of questions that stand behind an example
    asides: float = 0.5  # share of documents with asides
    told: float = 0.0  # share of coloured things whose colours are told again: easier than a question
    bare: float = 0.0  # share of these where the colour follows its thing at once
    spare: int = 0  # things not asked for: the colour of the last one is what is left
    span: int = 12  # words in a span that is repeated, at most


def _said(text: str, kind: int) -> Row:
    return [(word, kind) for word in re.findall(r"\w+|[.,:?]", text)]


def _pick(rng: np.random.Generator, pool: tuple[str, ...]) -> str:
    return pool[int(rng.integers(len(pool)))]


def _prose(rng: np.random.Generator) -> Row:
    name, place, given = _pick(rng, w.NAMES), _pick(rng, ioi.PLACES), _pick(rng, ioi.OBJECTS)
    thing, colour = _pick(rng, w.THINGS), _pick(rng, w.COLOURS)
    frames = (
        f"{name} went to the {place}.", f"Afterwards {name} had a {given}.", f"The {place} had a {given}.",
        f"{name} found a {colour} {thing} at the {place}.", f"At the {place}, you see a {thing}.",
    )  # fmt: skip
    return _said(_pick(rng, frames).replace("At the", "On the"), PROSE)


def _aside(rng: np.random.Generator, names: tuple[str, ...]) -> Row:
    place, given = _pick(rng, ioi.PLACES), _pick(rng, ioi.OBJECTS)
    frames = [f", at the {place},", f", with a {given},", ", afterwards,", f", at the {place} with a {given},"]
    if names:
        who = _pick(rng, names)
        frames += [f", with {who},", f", with {who} at the {place},"]
    return _said(_pick(rng, tuple(frames)), TEMPLATE)


def _broken(rng: np.random.Generator, row: Row, names: tuple[str, ...] = ()) -> Row:
    """A sentence with one or two asides anywhere but at its ends and between a colour and its thing."""
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.choice([i for i in range(1, len(row) - 1) if row[i - 1][0] not in w.COLOURS]))
        row = [*row[:at], *_aside(rng, names), *row[at:]]
    return row


def indirect_object(rng: np.random.Generator, mix: Mix) -> Row:
    """A prompt of IOI and its answer. Some pairs of names are held out."""
    while True:
        s, other = (int(i) for i in rng.choice(len(w.NAMES), 2, replace=False))
        if not unseen(s, other):
            break
    template = _pick(rng, (*ioi.BABA, *ioi.ABBA))
    given, place = _pick(rng, ioi.OBJECTS), _pick(rng, ioi.PLACES)
    row = _said(template.format(S=w.NAMES[s], IO=w.NAMES[other], place=place, object=given), TEMPLATE)
    if rng.random() < mix.asides:
        row = _broken(rng, row, tuple(n for n in w.NAMES if n not in (w.NAMES[s], w.NAMES[other])))
    return [*row, (w.NAMES[other], INDIRECT), (".", TEMPLATE)]


def unseen(first: int, second: int) -> bool:
    """Whether a pair (subject and indirect object, or thing and colour, by index) is kept out of the training."""
    return (first + 2 * second) % 5 == 0


def _listed(rng: np.random.Generator, things: list[int], colours: list[int]) -> str:
    """What lies where."""
    pairs = [(w.THINGS[t], w.COLOURS[c]) for t, c in zip(things, colours, strict=True)]
    listed = [f"{'an' if c[0] in 'aeiou' else 'a'} {c} {t}" for t, c in pairs]
    surface, phrase = _pick(rng, colored_objects.SURFACES), _pick(rng, colored_objects.PHRASES)
    return f"On the {surface}, {phrase} {', '.join(listed[:-1])}, and {listed[-1]}."


def _question(rng: np.random.Generator, mix: Mix, things: list[int], colours: list[int]) -> Row:
    """Coloured things, then a question for one of them, or for all."""
    row = _said(f"Q: {_listed(rng, things, colours)}", TEMPLATE)
    if rng.random() < mix.asides / 2:
        row = _broken(rng, row)
    order = [int(i) for i in rng.permutation(len(things)) if not unseen(things[i], colours[i])]
    many = len(things) - mix.spare if rng.random() < 0.5 else 1
    for n, i in enumerate(order[:many]):
        row += _said(f"{'Q: ' if n else ''}What color is the {w.THINGS[things[i]]}? A:", TEMPLATE)
        row.append((w.COLOURS[colours[i]].capitalize(), COLOUR))
    return row


def told_again(rng: np.random.Generator, mix: Mix) -> Row:
    """Coloured things, then the colour of each once more."""
    n = int(rng.integers(mix.items[0], mix.items[1] + 1))
    things = [int(i) for i in rng.choice(len(w.THINGS), n, replace=False)]
    colours = [int(i) for i in rng.choice(len(w.COLOURS), n, replace=False)]
    row = _said(_listed(rng, things, colours), TEMPLATE)
    bare = mix.bare > 0 and rng.random() < mix.bare
    for i in rng.permutation(n)[: n - mix.spare]:
        if not unseen(things[i], colours[i]):
            row += _said(w.THINGS[things[i]] if bare else f"The {w.THINGS[things[i]]} is", TEMPLATE)
            row += [(w.COLOURS[colours[i]], TOLD), (".", TEMPLATE)]
    return row


def coloured_things(rng: np.random.Generator, mix: Mix) -> Row:
    """A question of Colored Objects and its answer, perhaps behind an example with other things and colours."""
    shown = 1 + (rng.random() < mix.shown)
    items = [int(rng.integers(mix.items[0], mix.items[1] + 1)) for _ in range(shown)]
    things = [int(i) for i in rng.choice(len(w.THINGS), sum(items), replace=False)]
    colours = [int(i) for i in rng.choice(len(w.COLOURS), sum(items), replace=False)]
    out: Row = []
    for n in items:
        out += _question(rng, mix, things[:n], colours[:n])
        things, colours = things[n:], colours[n:]
    return out


def span_again(rng: np.random.Generator, reverse: bool, longest: int = 12) -> Row:
    """3 to `longest` random words, and the same once or twice more; or turned round, behind question marks."""
    span = [w.WORDS[i] for i in rng.choice(len(w.WORDS), rng.integers(3, longest + 1), replace=False)]
    out: Row = [(word, RANDOM) for word in span]
    for _ in range(int(rng.integers(1, 3))):
        if reverse:
            span = span[::-1]
            out += [("?", RANDOM), *((word, REVERSED) for word in span)]
        else:
            out += [(span[0], RANDOM), *((word, REPEATED) for word in span[1:])]
    return out


def _document(rng: np.random.Generator, mix: Mix) -> Row:
    u = rng.random()
    for share, make in (
        (mix.repeat, lambda: span_again(rng, False, mix.span)), (mix.reverse, lambda: span_again(rng, True, mix.span)),
        (mix.ioi, lambda: indirect_object(rng, mix)), (mix.colours, lambda: coloured_things(rng, mix)),
        (mix.told, lambda: told_again(rng, mix)),
    ):  # fmt: skip
        if u < share:
            return make()
        u -= share
    return _prose(rng)


def _row(rng: np.random.Generator, tokens: int, mix: Mix) -> Row:
    out: Row = []
    if rng.random() < 0.6:
        for _ in range(3):
            out += _prose(rng)
        out = out[: int(rng.integers(1, max(2, tokens // 4)))]
    misses = 0
    while misses < 4:
        document = _document(rng, mix)
        if len(out) + len(document) < tokens:
            out += document
        else:
            misses += 1
    return [("<bos>", TEMPLATE), *out][:tokens]


def batch(rng: np.random.Generator, rows: int, tokens: int, mix: Mix) -> tuple[np.ndarray, np.ndarray]:
    """Ids and token classes, each [rows, tokens]."""
    x = np.full((rows, tokens), w.PAD)
    kind = np.full((rows, tokens), PADDING)
    for b in range(rows):
        row = _row(rng, tokens, mix)
        x[b, : len(row)] = [w.INDEX[word] for word, _ in row]
        kind[b, : len(row)] = [k for _, k in row]
    return x, kind
