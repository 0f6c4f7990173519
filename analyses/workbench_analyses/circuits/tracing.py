"""The stages of a circuit, found from the logits down by one rule that knows no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.circuits import CircuitEdge, Edge, Place, Stage
from workbench.progress import Report
from workbench.tasks.circuit_prompts import CircuitPrompts
from workbench_analyses.circuits.entering import Entering, entering
from workbench_analyses.circuits.sweeps import CHANNELS, LOGITS, Sweeper

END = "END"
SCREEN = 0.25
"""Part of the threshold that everything together must change before heads are asked one by one."""
COMMON = 0.5
"""Labels of fewer prompts than this share are not swept."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A stage with the effect of every head in it, in logits, prompt by prompt."""

    stage: Stage
    effects: Float[np.ndarray, "n layers heads"]
    found: Entering

    def heads(self, tau: float) -> tuple[Place, ...]:
        """Heads that enter."""
        return tuple((int(i), int(j)) for i, j in np.argwhere(self.found.at(tau)))


@dataclass(frozen=True)
class Choice:
    """A channel and label that was looked at to find the next stage.

    whole: |effect| prompt by prompt when the receivers get everything there, over the gap. size: summed |effect| of the
    heads, each by itself, over the gap; NaN where `whole` is so small that they were not asked.
    """

    depth: int
    receivers: tuple[Place, ...]
    channel: str
    label: str
    whole: float
    size: float
    followed: bool


def labels_of(prompts: CircuitPrompts) -> tuple[str, ...]:
    """Labels that enough prompts have, in the order of the first prompt that has each."""
    every = dict.fromkeys(label for p in prompts.prompts for label in p.spans)
    return tuple(x for x in every if sum(x in p.spans for p in prompts.prompts) >= COMMON * len(prompts))


def trace_stages(
    sweeper: Sweeper, gaps: Float[np.ndarray, " n"], report: Report
) -> tuple[list[Traced], list[Choice]]:  # fmt: skip
    """All stages, and the table of what was looked at between them.

    From the heads of a stage that act at one label, {q, k, v} × all labels are swept; followed is the (channel, label)
    with the largest summed |effect|, and any with a given share of it. The next stage has all receivers that led there.
    """
    config, stages, choices = sweeper.config, [_stage(sweeper, gaps, 1, (), LOGITS, END)], []
    report(1, config.depth)
    level = list(stages)
    for depth in range(2, config.depth + 1):
        followed: dict[tuple[str, str], set[Place]] = {}
        for receivers in _receivers(level, config.tau):
            table = _choices(sweeper, gaps, depth, receivers)
            choices += table
            for one in table:
                if one.followed:
                    followed.setdefault((one.channel, one.label), set()).update(receivers)
        level = [_stage(sweeper, gaps, depth, tuple(sorted(r)), c, x) for (c, x), r in followed.items()]
        level = [one for one in level if one.heads(config.tau)]
        stages += level
        report(depth, config.depth)
    return stages, choices


def _receivers(level: Sequence[Traced], tau: float) -> list[tuple[Place, ...]]:
    """Heads of the stages of one depth, those that act at the same label together; nothing reaches layer 0."""
    by_label: dict[str, set[Place]] = {}
    for one in level:
        by_label.setdefault(one.stage.label, set()).update(h for h in one.heads(tau) if h[0] > 0)
    return [tuple(sorted(heads)) for heads in by_label.values() if heads]


def _choices(sweeper: Sweeper, gaps: np.ndarray, depth: int, receivers: tuple[Place, ...]) -> list[Choice]:
    """What the receivers hear by each channel at each label, the loudest first.

    Where all of the corrupted run together changes next to nothing, heads are not asked one by one.
    """
    n, tau, labels = sweeper.config.explore, sweeper.config.tau, labels_of(sweeper.prompts)
    gap, wholes, sizes = abs(gaps[:n].sum()), {}, {}
    for label in labels:
        for channel, everything in zip(CHANNELS, sweeper.whole(receivers, CHANNELS, label, n), strict=True):
            wholes[channel, label] = float(np.abs(everything).sum() / gap)
        loud = [c for c in CHANNELS if not sweeper.config.screen or wholes[c, label] >= SCREEN * tau]
        for channel, effects in zip(loud, sweeper.heads(receivers, loud, label, n), strict=True):
            sizes[channel, label] = float(np.abs(effects.sum(0)).sum() / gap)
    every = [(channel, label) for channel in CHANNELS for label in labels]
    found = [(*one, wholes[one], sizes.get(one, float("nan"))) for one in every]
    least = max(tau, sweeper.config.follow * max((x[3] for x in found if x[3] == x[3]), default=0.0))
    found.sort(key=lambda x: (-np.nan_to_num(x[3], nan=-1.0), -x[2]))
    return [Choice(depth, receivers, *x, followed=x[3] >= least) for x in found]


def _stage(
    sweeper: Sweeper, gaps: np.ndarray, depth: int, receivers: tuple[Place, ...], channel: str, label: str
) -> Traced:
    (effects,) = sweeper.heads(receivers, (channel,), label)
    (whole,) = sweeper.whole(receivers, (channel,), label)
    stage = Stage(depth, channel, label, receivers, float(whole.sum() / gaps.sum()))
    return Traced(stage, effects, entering(effects, gaps, sweeper.config.seed))


def trace_edges(
    sweeper: Sweeper, gaps: Float[np.ndarray, " n"], stages: Sequence[Traced], report: Report
) -> list[CircuitEdge]:
    """Who tells each receiver by itself; the heads of the first stage tell the logits."""
    asked = [(one.stage, receiver) for one in stages for receiver in one.stage.receivers or (None,)]
    out = []
    for i, (stage, receiver) in enumerate(asked):
        (effects,) = sweeper.heads([receiver] if receiver else (), (stage.channel,), stage.label)
        found = entering(effects, gaps, sweeper.config.seed)
        for layer, head in np.argwhere(found.at(sweeper.config.tau)):
            at, edge = (layer, head), Edge((int(layer), int(head)), receiver, stage.channel, stage.label)
            out.append(CircuitEdge(edge, float(found.share[at]), float(found.low[at]), float(found.high[at])))
        report(i + 1, len(asked))
    return out


def ranking(stages: Sequence[Traced]) -> tuple[tuple[Place, float], ...]:
    """Every head that any stage shows, the largest first.

    Its rank in a stage is |share| over the stage's gap (or over the largest share, where heads cancel), times the rank of
    the receivers; the largest over the stages counts.
    """
    ranks: dict[Place, float] = {}
    for one in sorted(stages, key=lambda t: t.stage.depth):
        share = np.abs(one.found.share)
        chain = max((ranks.get(r, 0.0) for r in one.stage.receivers), default=1.0)
        whole = max(abs(one.stage.gap), float(share.max()))
        if whole == 0:
            continue
        for layer, head in np.argwhere(share > 0):
            at = (int(layer), int(head))
            ranks[at] = max(ranks.get(at, 0.0), float(share[layer, head]) / whole * chain)
    return tuple(sorted(ranks.items(), key=lambda item: (-item[1], item[0])))
