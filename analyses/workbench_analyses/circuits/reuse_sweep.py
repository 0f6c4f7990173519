"""The overlap over thresholds: one number at one threshold is no finding."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.circuits import Place
from workbench_analyses.circuits.entering import TAUS, entering
from workbench_analyses.circuits.reuse_chance import Overlap, overlap_of
from workbench_analyses.circuits.reuse_resampled import Intervals, intervals
from workbench_analyses.circuits.reuse_sides import Side


@dataclass(frozen=True)
class AtThreshold:
    """The overlap of the patching columns at a threshold. intervals: over prompts, where the runs kept their effects."""

    tau: float
    overlap: Overlap
    intervals: Intervals | None


def sweep(a: Side, b: Side, draws: int, seed: int) -> tuple[AtThreshold, ...]:
    """At each of TAUS that both sides know: without effects a circuit knows none below its own."""
    out = []
    for tau in TAUS:
        sides = [heads_at(side, tau) for side in (a, b)]
        if sides[0] is not None and sides[1] is not None:
            one = overlap_of(sides[0], sides[1], a.shape)
            out.append(AtThreshold(tau, one, intervals(a, b, "patching", draws, seed, tau)))
    return tuple(out)


def heads_at(side: Side, tau: float) -> set[Place] | None:
    """Heads that enter a stage at a threshold, by the rule of the trace; the receivers are those of the whole run."""
    if side.effects is None:
        if tau < side.tau:
            return None
        return {h.head for h in side.circuit.heads if (h.low if h.share > 0 else -h.high) > tau}
    seed = int(side.circuit.settings.get("seed", 0))
    found = [entering(effects, side.effects.gaps, seed).at(tau) for effects in side.effects.stages.values()]
    return {(int(layer), int(head)) for one in found for layer, head in zip(*one.nonzero(), strict=True)}
