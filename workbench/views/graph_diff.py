"""Two circuits in one graph: what they share, and what only one of them has."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.circuits import Circuit, Edge, Place
from workbench.views.colours import OKABE_ITO
from workbench.views.graph_parts import (
    ABLATION,
    LOGITS,
    Graph,
    Line,
    Look,
    Node,
    cut,
    head_name,
    joined,
    largest_first,
    told,
)

SHARED = "shared"


def diff_of(a: Circuit, b: Circuit, names: Sequence[str]) -> Graph:
    """Columns are stages by depth and channel, the logits' on the right; a node is a head, which has one place.

    A head is shared if both circuits hold it, in whatever stage (its text says which). Edges are matched by sender,
    receiver and channel: labels of two tasks differ.
    """
    kinds = (SHARED, f"only {names[0]}", f"only {names[1]}")
    where = [_columns(a), _columns(b)]
    heads = sorted({*where[0], *where[1]})
    nodes = [_node(head, (a, b), where, names, kinds) for head in heads]
    place = {node.head: i for i, node in enumerate(nodes)}
    lines = [
        Line(place[sender], None if receiver is None else place[receiver], share, kind, text)
        for (sender, receiver, _), (share, kind, text) in _edges((a, b), names, kinds).items()
        if sender in place and (receiver is None or receiver in place)
    ]
    used = {node.column for node in nodes}
    columns = sorted(used - {ABLATION}, key=_order, reverse=True)
    looks = dict(zip(kinds, (Look(OKABE_ITO[2]), Look(OKABE_ITO[0], "6 3"), Look(OKABE_ITO[1], "1.5 3")), strict=True))
    return cut(Graph(tuple(nodes), tuple(lines), (*([ABLATION] if ABLATION in used else []), *columns), looks, looks))


def _columns(circuit: Circuit) -> dict[Place, str]:
    """The stage of each head, that nearest to the logits; heads that only ablation shows have none."""
    out: dict[Place, str] = dict.fromkeys(circuit.needed, ABLATION)
    for stage in sorted(circuit.stages, key=lambda s: -s.depth):
        name = f"{stage.depth} {LOGITS if stage.channel == 'resid' else stage.channel}"
        out |= {one.head: name for one in circuit.in_stage(stage.name)}
    return out


def _order(column: str) -> tuple[int, str]:
    depth, channel = column.split(" ", 1)
    return int(depth), channel


def _kind(held: Sequence[bool], kinds: Sequence[str]) -> str:
    return kinds[0] if all(held) else kinds[1] if held[0] else kinds[2]


def _node(
    head: Place, circuits: Sequence[Circuit], where: Sequence[dict[Place, str]], names: Sequence[str], kinds: Sequence[str]
) -> Node:  # fmt: skip
    kind = _kind([head in side for side in where], kinds)
    parts, shares = [], [0.0]
    for circuit, side, name in zip(circuits, where, names, strict=True):
        ones = largest_first(h for h in circuit.heads if h.head == head)
        shares += [one.share for one in ones]
        if head in side:
            parts.append(f"{name}: {'; '.join(map(told, ones)) if ones else 'only ablation shows it'}")
    columns = [side[head] for side in where if head in side]
    column = min((c for c in columns if c != ABLATION), key=_order, default=ABLATION)
    return Node(head, column, max(shares, key=abs), kind, f"{head_name(head)}, {kind}. {'. '.join(parts)}")


def _edges(
    circuits: Sequence[Circuit], names: Sequence[str], kinds: Sequence[str]
) -> dict[tuple[Place, Place | None, str], tuple[float, str, str]]:
    """Share, kind and text of each edge, the labels of a task side by side."""
    found: dict[tuple[Place, Place | None, str], list[list]] = {}
    for which, circuit in enumerate(circuits):
        for one in largest_first(circuit.edges):
            found.setdefault(unlabelled(one.edge), [[], []])[which].append(one)
    out = {}
    for key, sides in found.items():
        kind = _kind([bool(side) for side in sides], kinds)
        told_by = [f"{n}: {'; '.join(map(joined, side))}" for n, side in zip(names, sides, strict=True) if side]
        share = max((one.share for side in sides for one in side), key=abs)
        out[key] = share, kind, f"{kind}. {'. '.join(told_by)}"
    return out


def unlabelled(edge: Edge) -> tuple[Place, Place | None, str]:
    """What of an edge can be compared between tasks."""
    return edge.sender, edge.receiver, edge.channel
