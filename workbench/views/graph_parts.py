"""What a circuit graph is made of: heads and edges with their evidence in words, of one circuit or of two compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from workbench.circuits import NO_ROLE, Circuit, CircuitEdge, CircuitHead, Edge, Place
from workbench.head_sets import Head
from workbench.views.colours import NO_SCORE, OKABE_ITO
from workbench.views.text import interval

MAX_NODES = 200
MAX_EDGES = 1000
ABLATION = "ablation only"
LOGITS = "logits"
WITH, AGAINST = "with the change", "against it"
_DASHES = ("", "5 3", "1.5 3")
T = TypeVar("T")


@dataclass(frozen=True)
class Look:
    """How a kind is drawn: its colour, and a dash pattern that tells it from the others without colour."""

    colour: str
    dash: str = ""


@dataclass(frozen=True)
class Node:
    """A head in a column of the graph. share: the largest of its stages, 0 where no stage shows it."""

    head: Place
    column: str
    share: float
    kind: str
    text: str


@dataclass(frozen=True)
class Line:
    """An edge between two nodes, by their place in the graph; receiver None: the logits."""

    sender: int
    receiver: int | None
    share: float
    kind: str
    text: str


@dataclass(frozen=True)
class Graph:
    """Nodes and edges, columns from left to right, how each kind looks, and what is not drawn, in words."""

    nodes: tuple[Node, ...]
    lines: tuple[Line, ...]
    columns: tuple[str, ...]
    node_looks: Mapping[str, Look]
    line_looks: Mapping[str, Look]
    left_out: str = ""


def head_name(head: Place | None) -> str:
    """Such as `L2H3`; `logits` for none."""
    return LOGITS if head is None else str(Head(*head))


def told(one: CircuitHead) -> str:
    """The evidence of a head in a stage."""
    seen = ", ".join(f"{key} {value:.2f}" for key, value in one.evidence.items())
    share = interval(one.share, one.low, one.high, 2)
    return f"{one.stage}: {share} of the gap, {one.role}{f' ({seen})' if seen else ''}"


def joined(one: CircuitEdge) -> str:
    """An edge in words."""
    e = one.edge
    channel = LOGITS if e.receiver is None else f"{head_name(e.receiver)} by its {e.channel}"
    return f"{head_name(e.sender)} to {channel} at {e.label}: {interval(one.share, one.low, one.high, 2)} of the gap"


def graph_of(circuit: Circuit) -> Graph:
    """One circuit: columns are labels, that of the logits on the right; a node is a head at a label, its kind a role."""
    labels = {stage.name: stage.label for stage in circuit.stages}
    found: dict[tuple[Place, str], list[CircuitHead]] = {}
    for one in largest_first(circuit.heads):
        found.setdefault((one.head, labels[one.stage]), []).append(one)
    nodes = [_node(head, label, ones) for (head, label), ones in found.items()]
    nodes += [ablated(head) for head in circuit.needed if head not in circuit.carrying]
    place = {(n.head, n.column): i for i, n in enumerate(nodes)}
    lines = [
        Line(place[e.edge.sender, e.edge.label], end, e.share, WITH if e.share >= 0 else AGAINST, joined(e))
        for e in largest_first(circuit.edges)
        if (e.edge.sender, e.edge.label) in place and (end := _end(e.edge, place, circuit)) != -1
    ]
    lost = len(circuit.edges) - len(lines)
    depths = sorted(circuit.stages, key=lambda s: s.depth)
    columns = [
        *dict.fromkeys(s.label for s in depths),
        *([ABLATION] if any(n.column == ABLATION for n in nodes) else []),
    ]
    roles = dict.fromkeys(role for s in depths for role in (h.role for h in circuit.in_stage(s.name)))
    graph = Graph(tuple(nodes), tuple(lines), tuple(columns[::-1]), role_looks(roles), SIGNS)
    return cut(graph, f"{lost} edges to or from heads that are not in the circuit" if lost else "")


def role_looks(roles: Iterable[str]) -> dict[str, Look]:
    """A colour a role; beyond six, a dashed edge tells roles of one colour apart."""
    named = [role for role in roles if role != NO_ROLE]
    looks = {role: Look(OKABE_ITO[i % 6], _DASHES[i // 6 % 3]) for i, role in enumerate(named)}
    return looks | {NO_ROLE: Look(NO_SCORE), ABLATION: Look(NO_SCORE, "2 3")}


SIGNS = {WITH: Look("#808080"), AGAINST: Look("#808080", "5 4")}


def ablated(head: Place) -> Node:
    """A head that only ablation shows; it has no stage, so no label and no share."""
    text = f"{head_name(head)}: its output from other prompts changes the answer, though no stage shows it"
    return Node(head, ABLATION, 0.0, ABLATION, text)


def largest_first(ones: Iterable[T]) -> list[T]:
    """Heads or edges by the size of their share."""
    return sorted(ones, key=lambda one: -abs(one.share))  # type: ignore[attr-defined]


def cut(graph: Graph, note: str = "") -> Graph:
    """At most MAX_NODES nodes and MAX_EDGES edges, those with the largest shares; says what is not drawn."""
    order = sorted(range(len(graph.nodes)), key=lambda i: -abs(graph.nodes[i].share))[:MAX_NODES]
    new = {old: place for place, old in enumerate(order)}
    held = [x for x in graph.lines if x.sender in new and (x.receiver is None or x.receiver in new)]
    held = sorted(held, key=lambda x: -abs(x.share))[:MAX_EDGES]
    lines = [replace(x, sender=new[x.sender], receiver=None if x.receiver is None else new[x.receiver]) for x in held]
    fewer = len(graph.nodes) - len(order), len(graph.lines) - len(lines)
    if any(fewer):
        note = "; ".join(filter(None, (note, f"{fewer[0]} heads and {fewer[1]} edges with smaller shares")))
    return replace(graph, nodes=tuple(graph.nodes[i] for i in order), lines=tuple(lines), left_out=note)


def _node(head: Place, label: str, ones: list[CircuitHead]) -> Node:
    text = f"{head_name(head)} at {label}. {'; '.join(map(told, ones))}"
    return Node(head, label, ones[0].share, ones[0].role, text)


def _end(edge: Edge, place: Mapping[tuple[Place, str], int], circuit: Circuit) -> int | None:
    """Where an edge arrives: at its receiver's own label, which for queries is the edge's. −1: nowhere in the graph."""
    if edge.receiver is None:
        return None
    if edge.channel == "q" and (edge.receiver, edge.label) in place:
        return place[edge.receiver, edge.label]
    steps = {s.depth - 1 for s in circuit.stages if (s.channel, s.label) == (edge.channel, edge.label)}
    nearer = [s.label for s in circuit.stages if s.depth in steps and (edge.receiver, s.label) in place]
    anywhere = [label for head, label in place if head == edge.receiver]
    return place[edge.receiver, [*nearer, *anywhere][0]] if anywhere else -1
