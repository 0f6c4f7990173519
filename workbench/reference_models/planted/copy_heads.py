"""`planted-copy`: three redundant heads answer the needle task, among decoys that only look as if they did.

Layer 0 writes the last three tokens beside each token. A copy head looks for a key with the same past and copies it,
so it says what followed last time: an induction head over three tokens, which alone answers every needle.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from workbench.reference_models.planted import Planted

ROLES = MappingProxyType(
    {
        "copy": ((1, 5), (2, 0), (2, 6)),  # any one of them suffices
        "previous": ((0, 3),),
        "previous-2": ((0, 2),),
        "previous-3": ((0, 6),),  # brings the name to the question: needed where two statements compete
        "ahead": ((1, 4), (2, 7)),  # at the needle with most of their mass, never at the token to say
        "echo": ((0, 1), (1, 0), (2, 2)),
        "previous-idle": ((1, 7),),
        "uniform": ((0, 7), (1, 6), (2, 3)),
        "sink-bos": ((0, 0), (1, 1), (2, 1)),  # nothing else to do; copy and ahead heads park there too, at times
        "stray": ((0, 4), (0, 5), (1, 2), (1, 3), (2, 4), (2, 5)),  # small random weights
    }
)
SINK = 1.75
"""Tokens that must match lest a copy head parks. Two match at the first token of an answer, beside the name."""


def _build() -> tuple[Any, Any]:
    from workbench.reference_models.planted import circuits as c
    from workbench.reference_models.planted import wiring as w

    frame = w.Frame()
    frame.say(".", 2.0)
    heads = {role: [frame.head(*place) for place in places] for role, places in ROLES.items()}
    for role, shows in (("echo", c.shows_token), ("copy", c.shows_past)):
        for group in heads[role]:
            shows(group)
    for role in ("previous", "previous-3", "previous-idle"):
        c.shows_place(heads[role][0])
    for i, role in enumerate(("previous", "previous-2", "previous-3"), 1):
        c.remembers(heads[role][0], i)
    for head in heads["copy"]:
        c.copies(head, SINK)
    for i, head in enumerate(heads["ahead"], 1):
        c.runs_ahead(head, i)
    for head in heads["echo"]:
        c.echoes(head)
    for head in heads["sink-bos"]:
        c.idles(head, SINK)
    w.looks_back(heads["previous-idle"][0], 1)
    for head in (*heads["previous-idle"], *heads["uniform"]):
        w.writes(head, w.OUT, c.LITTLE)
    for i, head in enumerate(heads["stray"]):
        w.stray(head, seed=i)
    return frame.finished()


PLANTED = Planted(
    "planted-copy",
    "3 layers × 8 heads; three copy heads answer needles, the others are decoys: retrieval heads with ground truth",
    _build,
    ROLES,
    MappingProxyType({"sink-bos": "<bos>"}),
)
