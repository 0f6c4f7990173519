"""Colored Objects: three objects with colours, one example, and the colour of one object is asked for.

After Merullo et al. 2024 (arXiv 2310.08744) and its released prompts: their words, their form, their statistics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.progress import counting
from workbench.tasks.circuit_prompts import CircuitPrompt, CircuitPrompts, CircuitTask, checked_corruption
from workbench.tasks.spelling import Spelling, filled, fitting

SURFACES = ("table", "desk", "floor")
PHRASES = ("there is", "you see", "I see")
OBJECTS = tuple(
    "pencil notebook pen cup plate jug mug puzzle textbook leash necklace bracelet bottle ball envelope lighter "
    "bowl".split()
)
COLOURS = tuple("red orange yellow green blue purple brown black".split())
ITEMS = 3
CORRUPTIONS = ("mindiff", "resample")
"""`mindiff`: another of the listed objects is asked for. `resample`: everything behind the example is drawn anew."""
_QUESTION = (
    "Q: On the {surface}, {phrase} {a0} {colour0} {object0}, {a1} {colour1} {object1}, and {a2} {colour2} {object2}. "
    "What color is the {question}?\nA:"
)
_TEMPLATE = _QUESTION.replace("{", "{shown-") + " {shown-answer}\n" + _QUESTION


def colored_objects_prompts(
    tokenizer: Any,
    n: int,
    seed: int = 0,
    corruption: str = "mindiff",
    misfits: str = "replace",
    bos: bool | None = None,
) -> CircuitPrompts:
    """n prompts. Answers: the colour asked for, and that of the listed object which `mindiff` asks for instead.

    Labels by what they are to the row, whatever their order: colour, object, question (the object asked for);
    wrong-colour, wrong-object (the foil's); other-colour, other-object; the same with `shown-` in the example, and
    shown-answer; END. misfits: what becomes of objects and colours that are not one token of this tokenizer: "replace"
    (listed in left_out) or "refuse". bos: see `Spelling`. Raises BadInput for what cannot be asked.
    """
    checked_corruption(corruption, CORRUPTIONS)
    spelling = Spelling(tokenizer, bos)
    objects, bad = fitting("objects", OBJECTS, spelling.fits, misfits, 2 * ITEMS)
    colours, faded = fitting("colours", COLOURS, lambda c: _both(spelling, c), misfits, 2 * ITEMS)
    rng = np.random.default_rng(seed)
    words = (objects, colours)
    fitting("the other words of the prompt", _frames(words), spelling.known, "refuse", 1)
    rows = [_prompt(rng, spelling, words, corruption) for _ in counting("prompts drawn", n)]
    return CircuitPrompts("colored-objects", tuple(rows), (*bad, *faded))


def _both(spelling: Spelling, colour: str) -> bool:
    return spelling.fits(colour) and spelling.fits(colour.capitalize())


def _frames(words: tuple[list[str], list[str]]) -> list[str]:
    """One question with each surface and phrase; in words that fit."""
    things, shades = (w[:ITEMS] for w in words)
    return ["an", *(filled(_QUESTION, _values(s, p, things, shades, 0))[0] for s in SURFACES for p in PHRASES)]


def _values(surface: str, phrase: str, objects: list[str], colours: list[str], asked: int) -> dict[str, str]:
    out = {"surface": surface, "phrase": phrase, "question": objects[asked]}
    for i, (thing, colour) in enumerate(zip(objects, colours, strict=True)):
        out |= {f"object{i}": thing, f"colour{i}": colour, f"a{i}": "an" if colour[0] in "aeiou" else "a"}
    return out


def _prompt(
    rng: np.random.Generator, spelling: Spelling, words: tuple[list[str], list[str]], corruption: str
) -> CircuitPrompt:
    objects, colours = ([str(x) for x in rng.choice(w, 2 * ITEMS, replace=False)] for w in words)
    shown_at, asked, foil = int(rng.integers(ITEMS)), *(int(x) for x in rng.choice(ITEMS, 2, replace=False))
    shown, second = ((str(rng.choice(SURFACES)), str(rng.choice(PHRASES))) for _ in range(2))
    first = _values(*shown, objects[:ITEMS], colours[:ITEMS], shown_at) | {"answer": colours[shown_at].capitalize()}
    clean = _values(*second, objects[ITEMS:], colours[ITEMS:], asked)
    clean |= {"answer": colours[ITEMS + asked], "foil": colours[ITEMS + foil]}
    flips = {"question": objects[ITEMS + foil]}
    if corruption == "resample":
        flips = _anew(rng, words, [*objects[:ITEMS], *colours[:ITEMS]], clean)
    shown_values = {f"shown-{label}": word for label, word in first.items()}
    answers = [f" {clean[which].capitalize()}" for which in ("answer", "foil")]
    pair = spelling.prompt(
        _TEMPLATE, {**shown_values, **clean}, {**shown_values, **clean, **flips}, answers, "colored-objects"
    )
    spans = _by_part(pair.spans, "shown-", shown_at, None) | _by_part(pair.spans, "", asked, foil)
    return CircuitPrompt(pair.clean, pair.corrupted, pair.answers, spans, pair.template, pair.text)


def _anew(rng: np.random.Generator, words: tuple[list[str], list[str]], held: list[str], clean: Any) -> dict[str, str]:
    """Other colours and objects than the example's, and a question whose answer is neither of the clean prompt's."""
    things = [str(x) for x in rng.choice([o for o in words[0] if o not in held], ITEMS, replace=False)]
    free = [c for c in words[1] if c not in held]
    asked, answers = int(rng.integers(ITEMS)), [clean["answer"], clean["foil"]]
    answer = str(rng.choice([c for c in free if c not in answers]))
    shades = [str(x) for x in rng.choice([c for c in free if c != answer], ITEMS - 1, replace=False)]
    shades.insert(asked, answer)
    return _values(clean["surface"], clean["phrase"], things, shades, asked)


def _by_part(spans: Any, prefix: str, asked: int, foil: int | None) -> dict[str, tuple[int, int]]:
    """Spans named by the part that they play, instead of by their order."""
    left = [i for i in range(ITEMS) if i not in (asked, foil)]
    parts = {"": asked} | (
        {"other-": left[0], "third-": left[1]} if foil is None else {"wrong-": foil, "other-": left[0]}
    )
    out = {
        f"{prefix}{part}{kind}": spans[f"{prefix}{kind}{i}"]
        for part, i in parts.items()
        for kind in ("colour", "object")
    }
    ends = ("question", "answer") if foil is None else ("question",)
    out |= {f"{prefix}{label}": spans[f"{prefix}{label}"] for label in ends}
    return out if foil is None else {**out, "END": spans["END"]}


TASK = CircuitTask(
    "colored-objects", "three coloured objects: which colour has one of them", colored_objects_prompts, CORRUPTIONS,
    ("resample",), {("q", "question"): "content gatherer"},
)  # fmt: skip
