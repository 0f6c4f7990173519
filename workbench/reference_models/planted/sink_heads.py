"""`planted-sink`: heads that park, on `<bos>` or on the first full stop, with and without a value, and heads that do not.

The frame and the copy heads are those of `planted-copy`, so this model answers needles too.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from workbench.reference_models.planted import Planted

ROLES = MappingProxyType(
    {
        "sink-bos": ((0, 0), (0, 1), (1, 4), (1, 5), (2, 6), (2, 7)),
        "sink-bos-value": ((1, 2),),  # says "." from there: blocking the key silences it
        "sink-later": ((1, 0), (2, 2), (2, 3)),
        "copy": ((1, 4), (2, 2), (2, 6)),  # park until the last three tokens stood there before
        "previous": ((0, 3), (1, 1), (2, 1)),
        "previous-2": ((0, 2),),
        "previous-3": ((0, 6),),
        "self": ((0, 4),),
        "uniform": ((0, 5), (0, 7), (1, 3), (1, 7), (2, 0)),
        "echo": ((1, 6),),
        "stray": ((2, 4), (2, 5)),
    }
)
COUNTER = (0, 0)
"""Parks except at full stops, which it counts for the heads that park on the first."""
SINK = 2.2
"""Tokens that must match lest a copy head parks: fewer than the two, and the name, of an answer's first token."""
LATER = 1.9
"""The same for the head that parks on a full stop: it has a past, some of which matches by chance."""
VALUE = 0.4
"""What the sink with a value says, in codes of the full stop: two nats."""


def _build() -> tuple[Any, Any]:
    from workbench.reference_models.planted import circuits as c
    from workbench.reference_models.planted import wiring as w
    from workbench.reference_models.planted.codes import own

    frame = w.Frame()
    at = frame.head
    for place in ((0, 2), (0, 4), (0, 6), (2, 0)):  # one head of each kv group; the other shares what is wired
        c.shows_place(at(*place))
    for place in ((1, 4), (2, 6)):
        c.shows_past(at(*place))
    c.shows_token(at(1, 6))
    for place in ((1, 0), (2, 2)):
        c.first_stop_is_sink(at(*place))
    w.keys_turn(at(1, 0))
    w.keys_hold(at(2, 2), c.PAST)
    w.bos_is_sink(at(1, 2))
    w.carries(at(1, 2), but=())
    c.counts_stops(at(*COUNTER))
    at(1, 2).o[w.OUT.start + own("."), own("<bos>")] = VALUE
    for place in ROLES["copy"]:
        c.copies(at(*place), LATER if place in ROLES["sink-later"] else SINK)
    for role in ("sink-bos", "sink-bos-value", "sink-later"):
        for place in set(ROLES[role]) - {COUNTER, *ROLES["copy"]}:
            w.parks(at(*place), SINK)
    for i, role in enumerate(("previous", "previous-2", "previous-3"), 1):
        c.remembers(at(*ROLES[role][0]), i)
    for place in ROLES["previous"][1:]:
        w.looks_back(at(*place), 1)
    w.looks_back(at(*ROLES["self"][0]), 0)
    c.echoes(at(*ROLES["echo"][0]))
    for place in (*ROLES["uniform"], *ROLES["self"], *ROLES["previous"][1:], (1, 5), (1, 0), (2, 3)):
        w.writes(at(*place), w.OUT, c.LITTLE)
    for i, place in enumerate(ROLES["stray"]):
        w.stray(at(*place), seed=i)
    return frame.finished()


PLANTED = Planted(
    "planted-sink",
    "3 layers × 8 heads that park on <bos>, on the first full stop or nowhere: attention sinks with ground truth",
    _build,
    ROLES,
    MappingProxyType({"sink-bos": "<bos>", "sink-bos-value": "<bos>", "sink-later": "."}),
)
