"""What the planted models' kv groups show and what their heads look for, each in a few wires."""

from __future__ import annotations

from workbench.reference_models.planted import wiring as w
from workbench.reference_models.planted.codes import SQUARE, own

PAST = (w.BACK1, w.BACK2, w.BACK3)
NAME = 0.4
"""Weight of the fourth token back, which holds the name that is asked for: `NAME ? answer :`."""
LITTLE = 0.05
"""What heads that take no part add to the output: enough to be seen, too little to change an answer."""


def shows_place(group: w.Head) -> None:
    """Keys for heads that look at offsets; the value is the token."""
    w.keys_turn(group)
    w.carries(group, but=())


def shows_token(group: w.Head) -> None:
    """Keys that are found by their own token; the sink is `<bos>`, of value zero."""
    w.keys_hold(group, (w.TOKEN,))
    w.bos_is_sink(group)
    w.carries(group)


def shows_past(group: w.Head) -> None:
    """Keys that are found by the three tokens before them; the sink is `<bos>`, of value zero."""
    w.keys_hold(group, PAST)
    w.bos_is_sink(group)
    w.carries(group)


def remembers(head: w.Head, offset: int) -> None:
    """Write the token so many places back into its block."""
    w.looks_back(head, offset)
    w.writes(head, PAST[offset - 1])


def copies(head: w.Head, sink: float) -> None:
    """Look for the token that followed the last three tokens before, and copy it to the output.

    At `NAME ? answer :` it looks for what followed `NAME is :`. So `answer` is sought as `is`; the `?` beside it is
    not sought at all (no channel has its dimension), and the name is sought, weakly, one place further back.
    """
    w.seeks(head, (w.TOKEN, w.BACK1, w.BACK2))
    for channel, block in zip(w.CHANNELS[1:], (w.BACK1, w.BACK2), strict=True):
        head.q[channel[own("is")], block.start + own("answer")] = w.UNIT
    w.diagonal(head.q, w.CHANNELS[2], w.BACK3, NAME * w.UNIT)
    w.parks(head, sink)
    w.writes(head, w.OUT)


def runs_ahead(head: w.Head, places: int) -> None:
    """Look one or two tokens beyond what comes next: at the needle, but never at the token to say."""
    w.seeks(head, (*[None] * places, w.TOKEN))
    w.parks(head, 0.6)
    w.writes(head, w.OUT, LITTLE)


def echoes(head: w.Head) -> None:
    """Attend evenly to the current token and its earlier copies."""
    w.seeks(head, (w.TOKEN,))
    w.writes(head, w.OUT, LITTLE)


def idles(head: w.Head, sink: float) -> None:
    """Do nothing but park."""
    w.parks(head, sink)
    w.writes(head, w.OUT, LITTLE)


def counts_stops(head: w.Head) -> None:
    """At a full stop, attend evenly to `<bos>` and all full stops, and write down the share of the latter.

    The share is 1/2 at the first full stop, 2/3 at the next, and so on; 0 at other tokens, where the head parks.
    """
    stop, slot = w.TOKEN.start + own("."), w.CHANNELS[0][own(".")]
    w.bos_is_sink(head)
    head.k[slot, stop] = 1.0
    head.v[own("."), stop] = 1.0
    head.q[slot, stop] = w.UNIT
    w.parks(head, 1.0)
    head.o[w.SPARE, own(".")] = SQUARE**-0.5


def first_stop_is_sink(group: w.Head) -> None:
    """The group's sink is the first full stop: a share of 1/2 gives the whole score, 2/3 little more than half of it."""
    group.k[w.SINK, w.TOKEN.start + own(".")] = 0.9 / 0.4
    group.k[w.SINK, w.SPARE] = -(SQUARE**0.5) / 0.4
    w.carries(group, but=("<bos>", "."))
