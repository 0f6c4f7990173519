"""From text with named slots to token ids with spans: where a slot stands is known when the text is put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from workbench.beginnings import begun
from workbench.errors import BadInput
from workbench.option_values import MISFITS, one_of
from workbench.tasks.circuit_prompts import CircuitPrompt, Span

END = "END"
"""The label of the last token, which the answer follows."""
SHOWN = 8
"""Misfits that an error lists."""


def slots_of(template: str) -> list[str]:
    """Labels of a template's slots in order: the field's name, numbered from 1 where the field stands several times."""
    fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    many, seen, out = Counter(fields), Counter(), []
    for field in fields:
        seen[field] += 1
        out.append(field if many[field] == 1 else f"{field}{seen[field]}")
    return out


def filled(template: str, values: Mapping[str, str]) -> tuple[str, dict[str, Span]]:
    """The text of a template, and the characters (start, end) of each slot.

    values: by label, or by field where all its slots hold the same.
    """
    text, spans, labels = "", {}, iter(slots_of(template))
    for literal, field, _, _ in Formatter().parse(template):
        text += literal
        if field is not None:
            label = next(labels)
            word = values[label] if label in values else values[field]
            spans[label] = (len(text), len(text) + len(word))
            text += word
    return text, spans


class Spelling:
    """A tokenizer that says where labelled characters went.

    bos: put the tokenizer's BOS first, once; None does as the tokenizer itself does. Raises BadInput for a tokenizer
    that cannot say where its tokens stand, and for a BOS token that it has not.
    """

    def __init__(self, tokenizer: Any, bos: bool | None = None) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise BadInput("circuit tasks need a fast tokenizer (tokenizer.json), which says where its tokens stand")
        self.tokenizer, self.head = tokenizer, begun(tokenizer, bos)

    def known(self, text: str) -> bool:
        """Whether no token of a text is the unknown one."""
        unknown = self.tokenizer.unk_token_id
        return unknown is None or unknown not in self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def spelled(self, text: str, places: Mapping[str, Span]) -> tuple[tuple[int, ...], dict[str, Span]]:
        """Ids, BOS included, and the columns of each labelled place. Raises BadInput where a token straddles one."""
        out = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        marks = [_bare(text, *mark) for mark in out["offset_mapping"]]
        first = len(self.head)
        spans = {}
        for label, (a, b) in places.items():
            inside = [i for i, (start, end) in enumerate(marks) if start < b and end > a]
            if not inside or any(marks[i][0] < a or marks[i][1] > b for i in inside):
                raise BadInput(f"{text!r}: {label} ({text[a:b]!r}) shares a token with its surroundings")
            spans[label] = (inside[0] + first, inside[-1] + 1 + first)
        return (*self.head, *out["input_ids"]), spans

    def fits(self, word: str, first: bool = False) -> bool:
        """Whether a word is one known token wherever it stands; first: at the beginning of a text as well."""
        text, places = filled("{w}, and {w} of {w}.", {"w": word})
        try:
            ids, spans = self.spelled(text, places)
        except BadInput:
            return False
        tokens = [ids[a:b] for a, b in spans.values()][0 if first else 1 :]
        same = all(len(t) == 1 for t in tokens) and tokens[-1] == tokens[-2]
        return same and self.tokenizer.unk_token_id not in (t[0] for t in tokens)

    def following(self, text: str, word: str) -> int:
        """The id of a word as the next token after a text. Raises BadInput where it is none."""
        ids, _ = self.spelled(text, {})
        whole, _ = self.spelled(text + word, {})
        if whole[:-1] != ids:
            raise BadInput(f"{word!r} is not one token after {text!r}: use an answer that is")
        return whole[-1]

    def prompt(
        self, template: str, clean: Mapping[str, str], corrupted: Mapping[str, str], answers: Sequence[str], name: str
    ) -> CircuitPrompt:
        """A pair of prompts of one template. Labels are its slots and END. Raises BadInput where the two do not match."""
        text, places = filled(template, clean)
        ids, spans = self.spelled(text, places)
        other, moved = self.spelled(*filled(template, corrupted))
        right, wrong = (self.following(text, word) for word in answers)
        pair = CircuitPrompt(ids, other, (right, wrong), {**spans, END: (len(ids) - 1, len(ids))}, name, text)
        if moved != spans:
            label = next(k for k in spans if spans[k] != moved[k])
            raise BadInput(f"{text!r}: {label} stands at other tokens in the corrupted prompt")
        return pair


def _bare(text: str, start: int, end: int) -> Span:
    """A token's characters without the spaces around them."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), max(start, end - (len(piece) - len(piece.rstrip())))


def fitting(
    what: str, items: Sequence[str], fits: Callable[[str], bool], misfits: str, least: int
) -> tuple[list[str], list[str]]:
    """The items that fit, and those that do not.

    misfits: "replace" draws from the others in their stead; "refuse" raises BadInput, which lists them. Raises it too
    where fewer than `least` fit.
    """
    one_of("misfits", misfits, MISFITS)
    good = [x for x in items if fits(x)]
    bad = [x for x in items if x not in good]
    shown = ", ".join(bad[:SHOWN]) + (f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
    if len(good) < least:
        raise BadInput(f"{what}: {len(good)} of {len(items)} fit this tokenizer, {least} are needed; not: {shown}")
    if bad and misfits == "refuse":
        raise BadInput(
            f"{what} that do not fit this tokenizer: {shown}; misfits=replace draws from the {len(good)} others"
        )
    return good, bad
