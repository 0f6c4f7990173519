"""`planted-calibrate`: heads whose sink holds back a vote; calibrating one mends answers, another spoils them.

Asked for a code, `help` votes for what was stated of the name, `harm` for what most statements say, whoever they are
about. Both leave a share of their attention on the first full stop, which says nothing. Calibrated, they vote louder:
so on prompts where a wrong code is stated several times, only `help` brings the right one forward.
"""

from __future__ import annotations

from math import log
from types import MappingProxyType
from typing import Any

from workbench.reference_models.planted import Planted

ROLES = MappingProxyType(
    {
        "help": ((1, 4),),
        "harm": ((1, 6),),
        "sink-bos": ((0, 0), (1, 0), (1, 1), (2, 1)),  # exempt
        "sink-later": ((1, 5), (1, 7), (2, 2), (2, 3)),  # park like the two, and say nothing that is read
        "previous": ((0, 3),),
        "previous-2": ((0, 2),),
        "previous-3": ((0, 6),),
        "uniform": ((0, 1), (0, 5), (0, 7), (1, 2), (1, 3), (2, 0), (2, 6), (2, 7)),
        "self": ((0, 4),),
        "stray": ((2, 4), (2, 5)),
    }
)
PARKED = 0.7
"""Share of its attention that `help` leaves on the sink at the question."""
CROWD = 9.3
"""Statements that `harm` would have to see to leave half of its attention on the sink."""
LOUDER = 1.8
"""Vote of `harm` in votes of `help`: a wrong code that is stated often wins, more often once `harm` is calibrated."""


def _levels() -> tuple[float, float]:
    """Scores of the sink, in tokens that match: its odds against one key of the statement sought, or of any."""
    from workbench.reference_models.planted.circuits import NAME
    from workbench.reference_models.planted.wiring import SHARP

    return 2 + NAME + log(PARKED / (1 - PARKED)) / SHARP, 2 + log(CROWD) / SHARP


def _votes(head: Any, level: float, loud: float, by_name: bool) -> None:
    """Look for what followed `is :`, of the name alone or of anybody, and vote for it."""
    from workbench.reference_models.planted import circuits as c
    from workbench.reference_models.planted import wiring as w
    from workbench.reference_models.planted.codes import own

    w.seeks(head, (w.TOKEN, w.BACK1))
    head.q[w.CHANNELS[1][own("is")], w.BACK1.start + own("answer")] = w.UNIT
    if by_name:
        w.diagonal(head.q, w.CHANNELS[2], w.BACK3, c.NAME * w.UNIT)
    w.parks(head, level)
    w.writes(head, w.OUT, loud)


def _build() -> tuple[Any, Any]:
    from workbench.reference_models.planted import circuits as c
    from workbench.reference_models.planted import wiring as w

    frame = w.Frame()
    at = frame.head
    for place in ((0, 2), (0, 4), (0, 6)):  # one head of each kv group; the other shares what is wired
        c.shows_place(at(*place))
    for place in ((1, 4), (1, 6)):
        w.keys_hold(at(*place), c.PAST)
        c.first_stop_is_sink(at(*place))
    c.first_stop_is_sink(at(2, 2))
    for place in ((1, 0), (2, 1)):
        w.bos_is_sink(at(*place))
    c.counts_stops(at(0, 0))
    for i, role in enumerate(("previous", "previous-2", "previous-3"), 1):
        c.remembers(at(*ROLES[role][0]), i)
    help_level, harm_level = _levels()
    _votes(at(*ROLES["help"][0]), help_level, 1.0, by_name=True)
    _votes(at(*ROLES["harm"][0]), harm_level, LOUDER, by_name=False)
    for role in ("sink-bos", "sink-later"):
        for place in set(ROLES[role]) - {(0, 0)}:
            w.parks(at(*place), 1.0)
    w.looks_back(at(*ROLES["self"][0]), 0)
    for place in ROLES["stray"]:
        w.stray(at(*place), seed=place[1])
    return frame.finished()


PLANTED = Planted(
    "planted-calibrate",
    "3 layers × 8 heads; calibrating one head mends answers, another spoils them: ACT with ground truth",
    _build,
    ROLES,
    MappingProxyType({"sink-bos": "<bos>", "sink-later": ".", "help": ".", "harm": "."}),
)
