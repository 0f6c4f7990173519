"""Indirect object identification: two names, one of them again, and the other one is to come.

Templates, names, places and objects are those of Wang et al. 2023 (arXiv 2211.00593, appendix E and released data);
S is the subject, named twice, IO the indirect object. BABA names S first, ABBA names IO first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from workbench.errors import BadInput, did_you_mean
from workbench.progress import counting
from workbench.tasks.circuit_prompts import CircuitPrompt, CircuitPrompts, CircuitTask, Span, checked_corruption
from workbench.tasks.spelling import Spelling, filled, fitting
from workbench.untrusted import LARGEST_CONFIG, parsed, text_of

BABA = (
    "Then, {S} and {IO} went to the {place}. {S} gave a {object} to",
    "Then, {S} and {IO} had a lot of fun at the {place}. {S} gave a {object} to",
    "Then, {S} and {IO} were working at the {place}. {S} decided to give a {object} to",
    "Then, {S} and {IO} were thinking about going to the {place}. {S} wanted to give a {object} to",
    "Then, {S} and {IO} had a long argument, and afterwards {S} said to",
    "After {S} and {IO} went to the {place}, {S} gave a {object} to",
    "When {S} and {IO} got a {object} at the {place}, {S} decided to give it to",
    "When {S} and {IO} got a {object} at the {place}, {S} decided to give the {object} to",
    "While {S} and {IO} were working at the {place}, {S} gave a {object} to",
    "While {S} and {IO} were commuting to the {place}, {S} gave a {object} to",
    "After the lunch, {S} and {IO} went to the {place}. {S} gave a {object} to",
    "Afterwards, {S} and {IO} went to the {place}. {S} gave a {object} to",
    "Then, {S} and {IO} had a long argument. Afterwards {S} said to",
    "The {place} {S} and {IO} went to had a {object}. {S} gave it to",
    "Friends {S} and {IO} found a {object} at the {place}. {S} gave it to",
)
ABBA = tuple(t.replace("{S} and {IO}", "{IO} and {S}", 1) for t in BABA)
ORDERS = {"baba": BABA, "abba": ABBA, "mixed": (*BABA[:7], *ABBA[:7]), "all": (*BABA, *ABBA)}
"""Which templates: `mixed` is the published half of each."""
NAMES = tuple(
    "Michael Christopher Jessica Matthew Ashley Jennifer Joshua Amanda Daniel David James Robert John Joseph Andrew "
    "Ryan Brandon Jason Justin Sarah William Jonathan Stephanie Brian Nicole Nicholas Anthony Heather Eric Elizabeth "
    "Adam Megan Melissa Kevin Steven Thomas Timothy Christina Kyle Rachel Laura Lauren Amber Brittany Danielle Richard "
    "Kimberly Jeffrey Amy Crystal Michelle Tiffany Jeremy Benjamin Mark Emily Aaron Charles Rebecca Jacob Stephen "
    "Patrick Sean Erin Jamie Kelly Samantha Nathan Sara Dustin Paul Angela Tyler Scott Katherine Andrea Gregory Erica "
    "Mary Travis Lisa Kenneth Bryan Lindsey Kristen Jose Alexander Jesse Katie Lindsay Shannon Vanessa Courtney "
    "Christine Alicia Cody Allison Bradley Samuel".split()
)
PLACES = tuple("store garden restaurant school hospital office house station".split())
OBJECTS = tuple("ring kiss bone basketball computer necklace drink snack".split())
_WORDS: dict[str, Sequence[str]] = {"names": NAMES, "places": PLACES, "objects": OBJECTS}
MIB = ("name_A", "name_B", "name_C", "place", "object")
CORRUPTIONS = ("s2-io", "abc")
"""`s2-io`: the second S becomes IO, so that the foil is asked for. `abc`: three other names, so that none is."""


def ioi_prompts(
    tokenizer: Any,
    n: int,
    seed: int = 0,
    corruption: str = "s2-io",
    order: str = "all",
    names: Sequence[str] | None = None,
    folder: str | Path | None = None,
    misfits: str = "replace",
    bos: bool | None = None,
) -> CircuitPrompts:
    """n prompts, spread evenly over the templates of an order. Answers: IO and S.

    Labels: IO, S1, S2, the tokens beside the names of the first clause (S1-1, S1+1, IO-1, IO+1), place, object (object1
    and object2 in the template that names it twice), END.
    names: instead of the published 99. folder: MIB's templates, names, places and objects instead. misfits: what
    becomes of names, places and objects that are not one token of this tokenizer, and of templates with unknown words:
    "replace" (listed in left_out) or "refuse". bos: see `Spelling`. Raises BadInput for what cannot be asked.
    """
    checked_corruption(corruption, CORRUPTIONS)
    templates, words = _material(order, names, folder)
    spelling = Spelling(tokenizer, bos)
    opened = any(t.startswith("{") for t in templates)
    names_fit, names_bad = fitting("names", words["names"], lambda w: spelling.fits(w, opened), misfits, 5)
    places, places_bad = fitting("places", words["places"], spelling.fits, misfits, 1)
    objects, objects_bad = fitting("objects", words["objects"], spelling.fits, misfits, 1)
    example = {"S": names_fit[0], "IO": names_fit[1], "place": places[0], "object": objects[0]}
    kept, unknown = fitting("templates", templates, lambda t: spelling.known(filled(t, example)[0]), misfits, 1)
    pools = {"names": names_fit, "places": places, "objects": objects}
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.resize(rng.permutation(len(kept)), n))
    rows = (_prompt(rng, spelling, kept[int(chosen[i])], pools, corruption) for i in counting("prompts drawn", n))
    return CircuitPrompts("ioi", tuple(rows), (*names_bad, *places_bad, *objects_bad, *unknown))


def _prompt(
    rng: np.random.Generator, spelling: Spelling, template: str, pools: dict[str, list[str]], corruption: str
) -> CircuitPrompt:
    s, io, a, b, c = (str(x) for x in rng.choice(pools["names"], 5, replace=False))
    clean = {"S1": s, "S2": s, "IO": io, "place": str(rng.choice(pools["places"]))}
    clean["object"] = str(rng.choice(pools["objects"]))
    corrupted = {**clean, **({"S2": io} if corruption == "s2-io" else {"IO": a, "S1": b, "S2": c})}
    pair = spelling.prompt(template, clean, corrupted, (f" {io}", f" {s}"), template)
    beside = _beside(pair.spans, len(spelling.head))
    return CircuitPrompt(pair.clean, pair.corrupted, pair.answers, {**pair.spans, **beside}, template, pair.text)


def _beside(spans: Mapping[str, Span], first: int) -> dict[str, Span]:
    """The tokens before and after the names of the first clause; none before a name that begins the text.

    Those after come first: what stands between the names follows the one and precedes the other.
    """
    out = {f"{name}+1": (spans[name][1], spans[name][1] + 1) for name in ("S1", "IO")}
    return out | {f"{name}-1": (a - 1, a) for name in ("S1", "IO") if (a := spans[name][0]) > first}


def _material(
    order: str, names: Sequence[str] | None, folder: str | Path | None
) -> tuple[tuple[str, ...], dict[str, Sequence[str]]]:
    """Templates of an order with slots S, IO, place, object; and the words by kind."""
    if order not in ORDERS:
        raise BadInput(f"order={order}: use {', '.join(ORDERS)}.{did_you_mean(order, ORDERS)}")
    templates, words = ORDERS[order], _WORDS
    if folder is not None:
        templates, words = read_mib(folder, order)
    if names is not None:
        if len(set(names)) < len(names):
            raise BadInput(f"names: {max(names, key=list(names).count)} stands twice")
        words = {**words, "names": tuple(names)}
    return templates, words


def read_mib(folder: str | Path, order: str = "all") -> tuple[tuple[str, ...], dict[str, Sequence[str]]]:
    """Templates and words of a folder in MIB's form: templates.json, names.json, places.json, objects.json.

    Its slots are name_A, name_B, name_C, place, object; C is S, and A or B as the order says. Templates are taken as
    they stand, whether they say `a` or `an`. Raises BadInput, with the file, for what is not so.
    """
    read = {kind: _texts(Path(folder) / f"{kind}.json") for kind in ("templates", "names", "places", "objects")}
    for text in read["templates"]:
        if not _in_form(text):
            named = ", ".join(f"{{{slot}}}" for slot in MIB)
            raise BadInput(f"{Path(folder) / 'templates.json'}: {text!r}: use the slots {named}, the names once each")
    renamed = {"baba": ("S", "IO"), "abba": ("IO", "S")}
    wanted = {"baba": ("baba",), "abba": ("abba",), "mixed": ("baba", "abba"), "all": ("baba", "abba")}[order]
    half = slice(len(read["templates"]) // 2 if order == "mixed" else None)
    templates = tuple(
        t.format(name_A=f"{{{a}}}", name_B=f"{{{b}}}", name_C="{S}", place="{place}", object="{object}")
        for a, b in (renamed[w] for w in wanted)
        for t in read["templates"][half]
    )
    return templates, {kind: tuple(read[kind]) for kind in ("names", "places", "objects")}


def _in_form(template: str) -> bool:
    try:
        found = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError:
        return False
    slots = [field for field, _, _ in found]
    if any(width or turned for _, width, turned in found):  # {place:>999999999} would be a gigabyte of spaces
        return False
    return set(slots) <= set(MIB) and all(slots.count(name) == 1 for name in MIB[:3])


def _texts(path: Path) -> list[str]:
    try:
        out = parsed(text_of(path, LARGEST_CONFIG))
    except (OSError, ValueError) as error:
        raise BadInput(f"folder={path.parent}: {path.name} cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(out, list) or not out or not all(isinstance(x, str) for x in out):
        raise BadInput(f"{path}: not a JSON list of texts")
    return out


TASK = CircuitTask(
    "ioi", "two names, one again: which one is given something", ioi_prompts, CORRUPTIONS, ("abc",),
    {("q", "S2"): "S-inhibition"},
)  # fmt: skip
