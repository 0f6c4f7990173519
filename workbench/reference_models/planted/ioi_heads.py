"""What each role of the planted circuits is wired as. Scores are in units of β; without its trigger a head parks on
`<bos>`, whose value is zero."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.reference_models.planted.ioi_frame import NATS, CircuitFrame
from workbench.reference_models.planted.ioi_words import colours, names, objects, vocabulary
from workbench.reference_models.planted.wiring import Head


def _token(frame: CircuitFrame, word: str) -> int:
    return frame.at["token"].start + vocabulary().index(word)


def _tokens(frame: CircuitFrame, words: Sequence[str]) -> list[int]:
    return [_token(frame, w) for w in words]


def _dims(frame: CircuitFrame, block: str, first: int = 0, count: int | None = None) -> list[int]:
    whole = list(range(frame.at[block].start, frame.at[block].stop))
    return whole[first:] if count is None else whole[first : first + count]


def says(frame: CircuitFrame) -> None:
    """The output block is names, then colours, which are said with a capital."""
    answers = (*names(), *(c.capitalize() for c in colours()))
    for word, dim in zip(answers, _dims(frame, "out"), strict=True):
        frame.unembedding[vocabulary().index(word), dim] = NATS


def _asks(frame: CircuitFrame, head: Head, slot: int, dims: Sequence[int], times: float) -> None:
    """Add `times` β, where any of these dimensions is set, to the scores of keys that set the slot."""
    for dim in dims:
        head.q[slot, dim] += times * frame.unit / frame.sizes[dim]


def _answers(frame: CircuitFrame, head: Head, slot: int, dims: Sequence[int]) -> None:
    """Set a key's slot where any of these dimensions is set."""
    for dim in dims:
        head.k[slot, dim] = 1 / frame.sizes[dim]


def _match(frame: CircuitFrame, head: Head, slots: list[int], query: list[int], key: list[int], times: float) -> None:
    """Add `times` β where the query's and the key's dimension of one rank are both set."""
    for slot, q, k in zip(slots, query, key, strict=False):
        _any(frame, head, slot, [q], [k], times)


def _any(frame: CircuitFrame, head: Head, slot: int, query: list[int], key: list[int], times: float) -> None:
    """Add `times` β where any of the query's and any of the key's dimensions is set."""
    _asks(frame, head, slot, query, times)
    _answers(frame, head, slot, key)


def _parks(frame: CircuitFrame, head: Head, slot: int, level: float) -> None:
    """The score of `<bos>`."""
    frame.constant(head.q, slot, level * frame.unit)
    _answers(frame, head, slot, [_token(frame, "<bos>")])


def _copies(frame: CircuitFrame, head: Head, read: list[int], write: list[int], gain: float, first: int = 0) -> None:
    """Carry dimensions to others."""
    for slot, (a, b) in enumerate(zip(read, write, strict=True), first):
        head.v[slot, a] = 1 / frame.sizes[a]
        head.o[b, slot] += gain * frame.sizes[b]


def duplicate(frame: CircuitFrame, head: Head) -> None:
    """At a name, look for the same name before; note that it stands twice."""
    own, slots = _tokens(frame, names()), frame.slots(placed=True)
    frame.shows_place(head)
    frame.seeks_offset(head, 0, -2.0)
    _match(frame, head, slots, own, own, 1.0)
    _parks(frame, head, slots[len(own)], 0.5)
    _copies(frame, head, own, _dims(frame, "twice"), 1.0)


def previous(frame: CircuitFrame, head: Head, times: float = 1.0, first: int = 0) -> None:
    """Note the name, the colour or `the` before. first: slots of the value that something else has."""
    frame.shows_place(head)
    frame.seeks_offset(head, 1, times)
    _copies(frame, head, _tokens(frame, (*names(), *colours(), "the")), _dims(frame, "back"), 1.0, first)


def duplicate_and_previous(frame: CircuitFrame, head: Head) -> None:
    """Both in one: at a name that stands twice the first of them, at another name `<bos>`, elsewhere the token before.

    The cosines of places are -1 at 32: the token so far back gets 2 β, one less than the token before.
    """
    own, slots = _tokens(frame, names()), frame.slots(placed=True)
    frame.seeks_offset(head, 0, -2.0)
    _match(frame, head, slots, own, own, 5.0)
    _parks(frame, head, slots[len(own)], 0.0)
    _asks(frame, head, slots[len(own)], own, 4.0)
    previous(frame, head, 3.0, len(own))
    _copies(frame, head, own, _dims(frame, "twice"), 1.0)


def induction(frame: CircuitFrame, head: Head) -> None:
    """At a name, look for what stood behind the same name before; note that the name stands twice."""
    own, behind, slots = _tokens(frame, names()), _dims(frame, "back", 0, len(names())), frame.slots()
    _match(frame, head, slots, own, behind, 1.0)
    _parks(frame, head, slots[len(own)], 0.5)
    _copies(frame, head, behind, _dims(frame, "twice"), 1.0)


def inhibition(frame: CircuitFrame, head: Head) -> None:
    """At `to`, look for a name that stands twice; note that it must not be said."""
    to, a, b, sink = [_token(frame, "to")], *frame.slots()[:3]
    _any(frame, head, a, to, _dims(frame, "twice"), 1.0)
    _any(frame, head, b, to, _tokens(frame, names()), 1.0)
    _parks(frame, head, sink, 0.5)
    _asks(frame, head, sink, to, 1.0)
    _copies(frame, head, _dims(frame, "twice"), _dims(frame, "shunned"), 1.0)


def gatherer(frame: CircuitFrame, head: Head) -> None:
    """At `:`, look for the last object behind `the`; note that its colour is asked for."""
    colon, a, b, sink = [_token(frame, ":")], *frame.slots(placed=True)[3:6]
    frame.shows_place(head)
    frame.prefers_late(head, vocabulary().index(":"), 2.0)
    _any(frame, head, a, colon, _tokens(frame, objects()), 2.0)
    _any(frame, head, b, colon, _dims(frame, "back")[-1:], 2.0)
    _parks(frame, head, sink, 0.5)
    _asks(frame, head, sink, colon, 4.0)
    _copies(frame, head, _tokens(frame, objects()), _dims(frame, "asked"), 1.0, len(names()))


def inhibition_and_gatherer(frame: CircuitFrame, head: Head) -> None:
    """Both in one: their triggers never meet."""
    to, a, b, sink = [_token(frame, "to")], *_free(frame)
    gatherer(frame, head)
    _any(frame, head, a, to, _dims(frame, "twice"), 1.0)
    _any(frame, head, b, to, _tokens(frame, names()), 1.0)
    _asks(frame, head, sink, to, 1.0)
    _copies(frame, head, _dims(frame, "twice"), _dims(frame, "shunned"), 1.0)


def _free(frame: CircuitFrame) -> list[int]:
    """Two slots that `gatherer` leaves, and its sink."""
    slots = frame.slots(placed=True)
    return [slots[0], slots[1], slots[5]]


def name_mover(frame: CircuitFrame, head: Head, gain: float) -> None:
    """Where a name must not be said, look for the other one; say it."""
    _parks(frame, head, _sink(frame), 0.5)
    _moves_names(frame, head, gain)


def colour_mover(frame: CircuitFrame, head: Head, gain: float) -> None:
    """Where an object is asked for, look for it behind a colour; say that colour."""
    _parks(frame, head, _sink(frame), 0.5)
    _moves_colours(frame, head, gain)


def name_and_colour_mover(frame: CircuitFrame, head: Head, gain: float) -> None:
    """Both in one."""
    _parks(frame, head, _sink(frame), 0.5)
    _moves_names(frame, head, gain)
    _moves_colours(frame, head, gain)


def _sink(frame: CircuitFrame) -> int:
    return frame.slots()[-1]


def _moves_names(frame: CircuitFrame, head: Head, gain: float) -> None:
    own, shunned, slots = _tokens(frame, names()), _dims(frame, "shunned"), frame.slots()
    _match(frame, head, slots, shunned, own, -1.0)
    _any(frame, head, slots[-2], shunned, own, 1.0)
    _copies(frame, head, own, _dims(frame, "out", 0, len(own)), gain)


def _moves_colours(frame: CircuitFrame, head: Head, gain: float) -> None:
    asked, slots = _dims(frame, "asked"), frame.slots()[len(names()) :]
    shades = _dims(frame, "back", len(names()), len(colours()))
    _match(frame, head, slots, asked, _tokens(frame, objects()), 1.0)
    _any(frame, head, frame.slots()[-3], asked, shades, 1.0)
    _asks(frame, head, _sink(frame), asked, 1.0)
    _copies(frame, head, shades, _dims(frame, "out", len(names())), gain, len(names()))


def negative_mover(frame: CircuitFrame, head: Head) -> None:
    """Where a name must not be said, look at it; say less of it."""
    own, slots = _tokens(frame, names()), frame.slots()
    _match(frame, head, slots, _dims(frame, "shunned"), own, 1.0)
    _parks(frame, head, _sink(frame), 0.5)
    _copies(frame, head, own, _dims(frame, "out", 0, len(own)), -0.5)


def backup_mover(frame: CircuitFrame, head: Head) -> None:
    """As the name mover, but only where that name is not said already."""
    own, shunned, slots = _tokens(frame, names()), _dims(frame, "shunned"), frame.slots()
    _match(frame, head, slots, shunned, own, -1.5)  # the negative mover speaks for it
    _match(frame, head, slots, _dims(frame, "out", 0, len(own)), own, -1.0)
    _any(frame, head, slots[-2], shunned, own, 1.0)
    _parks(frame, head, _sink(frame), 0.75)
    _copies(frame, head, own, _dims(frame, "out", 0, len(own)), 1.0)
