"""Do two circuits use a head for the same? Stage by stage: ranks, weights, roles, edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from workbench.circuits import Circuit, Edge, Place
from workbench_analyses.circuits.reuse_chance import Overlap, layer_shuffles, overlap_of
from workbench_analyses.circuits.reuse_sides import Key, Side

ABSENT = "not in the circuit"
ABLATED = "ablation only"
ALL: Key = (0, "all")
FAINT = 1e-3
"""Shares of the gap below this have no order: in ranks they are equal."""


@dataclass(frozen=True)
class StageReuse:
    """One stage of both circuits, aligned by depth from the logits and channel; `ALL`: their rankings.

    labels: what each calls it. overlap: of its heads. spearman: of |share| over all heads of the model, those below FAINT
    equal. p: layer-stratified shuffles with as large a value (one-sided); least: 1 / (1 + shuffles). weighted:
    Σ min(|a|, |b|) / Σ max.
    """

    key: Key
    labels: tuple[str, str]
    overlap: Overlap
    spearman: float
    p: float
    least: float
    weighted: float

    @property
    def name(self) -> str:
        """Such as `2 q`."""
        depth, channel = self.key
        return "all stages" if self.key == ALL else f"{depth} {'logits' if channel == 'resid' else channel}"


@dataclass(frozen=True)
class EdgeReuse:
    """Edges shared by sender, receiver and channel, of so many of each; labelled: those whose label is the same too.

    expected, p, least: against shuffles of the heads within each layer, which keep the form of both circuits.
    """

    a: int
    b: int
    shared: tuple[tuple[Place, Place | None, str], ...]
    labelled: int
    expected: float
    p: float
    least: float

    @property
    def share(self) -> float:
        """Shared / min."""
        return len(self.shared) / min(self.a, self.b) if min(self.a, self.b) else float("nan")

    @property
    def jaccard(self) -> float:
        """Shared over all."""
        every = self.a + self.b - len(self.shared)
        return len(self.shared) / every if every else float("nan")


def stage_reuse(a: Side, b: Side, draws: int, seed: int) -> tuple[StageReuse, ...]:
    """Every stage of both sides, from the logits down, and all of them by the circuits' rankings."""
    shuffles = layer_shuffles(a.shape, draws, seed)
    keys = sorted({*a.keys.values()} & {*b.keys.values()})
    out = []
    for key in keys:
        heads = [{head for k, head in side.in_stages() if k == key} for side in (a, b)]
        labels = [", ".join(s.label for s in side.circuit.stages if side.keys[s.name] == key) for side in (a, b)]
        one = overlap_of(heads[0], heads[1], a.shape)
        out.append(_stage(key, (labels[0], labels[1]), one, a.sizes(key), b.sizes(key), shuffles))
    whole = overlap_of(a.heads("patching"), b.heads("patching"), a.shape)
    return (*out, _stage(ALL, ("", ""), whole, a.circuit.ranks(), b.circuit.ranks(), shuffles))


def _stage(
    key: Key, labels: tuple[str, str], overlap: Overlap, x: Float[np.ndarray, "layers heads"],
    y: Float[np.ndarray, "layers heads"], shuffles: Int[np.ndarray, "draws layers heads"],
) -> StageReuse:  # fmt: skip
    rho, p = spearman(np.where(x < FAINT, 0, x), np.where(y < FAINT, 0, y), shuffles)
    most = float(np.maximum(x, y).sum())
    weighted = float(np.minimum(x, y).sum()) / most if most else float("nan")
    return StageReuse(key, labels, overlap, rho, p, 1 / (1 + len(shuffles)), weighted)


def spearman(
    x: Float[np.ndarray, "layers heads"], y: Float[np.ndarray, "layers heads"],
    shuffles: Int[np.ndarray, "draws layers heads"],
) -> tuple[float, float]:  # fmt: skip
    """Rank correlation over all heads, average ranks for ties; p: (1 + shuffles as large) / (1 + shuffles).

    Layers alone make ranks agree; the shuffles keep each layer's values and deal them out anew. NaN, 1 where a side is
    flat.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(v).reshape(v.shape) - (v.size + 1) / 2 for v in (x, y)]
    norm = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    if norm == 0:
        return float("nan"), 1.0
    rho = float((ranks[0] * ranks[1]).sum()) / norm
    layers = np.arange(x.shape[0])[:, None]
    dealt = [float((ranks[0] * ranks[1][layers, order]).sum()) / norm for order in shuffles]
    return rho, (1 + int((np.asarray(dealt) >= rho - 1e-12).sum())) / (1 + len(shuffles))


def confusion(a: Circuit, b: Circuit) -> dict[tuple[str, str], tuple[Place, ...]]:
    """Heads of either circuit by their role in the first and in the second: that of their largest share."""
    roles = _roles(a), _roles(b)
    out: dict[tuple[str, str], list[Place]] = {}
    for head in sorted({*roles[0], *roles[1]}):
        out.setdefault((roles[0].get(head, ABSENT), roles[1].get(head, ABSENT)), []).append(head)
    return {pair: tuple(heads) for pair, heads in out.items()}


def _roles(circuit: Circuit) -> Mapping[Place, str]:
    roles = dict.fromkeys(circuit.needed, ABLATED)
    return roles | {h.head: h.role for h in sorted(circuit.heads, key=lambda h: abs(h.share))}


def edge_reuse(a: Circuit, b: Circuit, draws: int, seed: int) -> EdgeReuse | None:
    """None where a circuit has no edges. Labels of two tasks differ, so edges are matched without them."""
    edges = [{_unlabelled(e.edge) for e in c.edges} for c in (a, b)]
    if not edges[0] or not edges[1]:
        return None
    shuffles = layer_shuffles((a.n_layers, a.n_heads), draws, seed)
    counts = _shared_when_dealt(edges[0], edges[1], shuffles)
    shared = tuple(sorted(edges[0] & edges[1], key=repr))
    p = (1 + int((counts >= len(shared)).sum())) / (1 + draws)
    labelled = len({e.edge for e in a.edges} & {e.edge for e in b.edges})
    return EdgeReuse(
        len(edges[0]), len(edges[1]), shared, labelled, float(counts.mean()), p, 1 / (1 + draws)
    )  # fmt: skip


def _unlabelled(edge: Edge) -> tuple[Place, Place | None, str]:
    return edge.sender, edge.receiver, edge.channel


def _shared_when_dealt(
    a: set[tuple[Place, Place | None, str]], b: set[tuple[Place, Place | None, str]],
    shuffles: Int[np.ndarray, "draws layers heads"],
) -> Int[np.ndarray, " draws"]:  # fmt: skip
    """How many edges are shared when the heads of the second circuit are dealt out anew within their layers."""
    layers, heads = shuffles.shape[1:]
    channels = {c: i for i, c in enumerate(sorted({c for _, _, c in (*a, *b)}))}
    size = layers * heads + 1

    def code(sender: Int[np.ndarray, " *d"], receiver: Int[np.ndarray, " *d"], channel: int) -> Int[np.ndarray, " *d"]:
        return (sender * size + receiver) * len(channels) + channel

    def at(head: Place | None, order: Int[np.ndarray, "draws layers heads"]) -> Int[np.ndarray, " draws"]:
        return np.full(len(order), size - 1) if head is None else head[0] * heads + order[:, head[0], head[1]]

    straight = np.arange(heads)[None, None].repeat(layers, 1)
    known = np.concatenate([code(at(s, straight), at(r, straight), channels[c]) for s, r, c in a])
    dealt = np.stack([code(at(s, shuffles), at(r, shuffles), channels[c]) for s, r, c in b])
    return np.isin(dealt, known).sum(0)
