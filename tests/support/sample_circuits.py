"""Circuits for tests, put together by hand: heads by stage, every edge between neighbouring stages."""

from __future__ import annotations

import numpy as np

from workbench.circuits import Circuit, CircuitEdge, CircuitHead, Edge, Stage
from workbench.heads import ModelIdentity

IDENTITY = ModelIdentity("m", "c", "w")
IOI = {
    (1, "resid", "END"): {"mover": [(9, 9), (10, 0), (9, 6)], "negative mover": [(10, 7), (11, 10)]},
    (2, "q", "END"): {"inhibition": [(7, 3), (7, 9), (8, 6), (8, 10)]},
    (3, "v", "S2"): {"induction": [(5, 5), (6, 9)], "duplicate": [(0, 1), (3, 0)]},
    (4, "k", "S1+1"): {"previous": [(2, 2), (4, 11)]},
}
COLOURS = {
    (1, "resid", "END"): {"mover": [(9, 9), (10, 0), (11, 1)]},
    (2, "q", "END"): {"gatherer": [(7, 3), (8, 1)]},
    (3, "v", "object"): {"induction": [(5, 5), (8, 6)]},
}


def circuit_of(stages, task="ioi", shape=(12, 12), needed=(), seed=0, edges=True, **changes):
    """stages: {(depth, channel, label): {role: heads}}; shares are random, the first head's of a stage the largest."""
    rng = np.random.default_rng(seed)
    every, heads, joins, before = [], [], [], None
    for (depth, channel, label), roles in stages.items():
        receivers = [] if before is None else before
        stage = Stage(depth, channel, label, tuple(receivers), 1.0)
        every.append(stage)
        members = [h for hs in roles.values() for h in hs]
        for role, head in ((r, h) for r, hs in roles.items() for h in hs):
            share = (0.9 if head == members[0] else 0.05 + 0.4 * rng.random()) * (-1 if "negative" in role else 1)
            heads.append(
                CircuitHead(head, stage.name, share, share - 0.04, share + 0.04, role, {f"attends {label}": 0.8})
            )
            for to in receivers or [None]:
                if edges and (to is None or to[0] > head[0]):
                    part = share / max(len(receivers), 1)
                    joins.append(CircuitEdge(Edge(head, to, channel, label), part, part - 0.01, part + 0.01))
        before = members
    ranking = sorted(((h.head, abs(h.share)) for h in heads), key=lambda x: -x[1])
    fields = {
        "model": IDENTITY, "n_layers": shape[0], "n_heads": shape[1], "task": task, "corruption": "c", "n": 32,
        "clean": 4.0, "corrupted": -3.5, "accuracy": 0.99, "stages": tuple(every), "heads": tuple(heads),
        "edges": tuple(joins), "needed": tuple(needed), "ranking": tuple(dict(reversed(ranking)).items()),
        "settings": {"tau": 0.02, "seed": 0},
    }  # fmt: skip
    return Circuit(**{**fields, **changes})


def two_circuits():
    """IOI and Colored Objects of GPT-2's shape: nine heads of the second, six of them shared."""
    return circuit_of(IOI, needed=[(0, 10), (2, 2)]), circuit_of(COLOURS, "colored-objects", needed=[(0, 10)], seed=1)
