"""From a stage and the evidence for a head to its role: no role without evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.circuits import NO_ROLE, CircuitHead, Place, Stage
from workbench_analyses.circuits.evidence import ATTENDED, Evidence
from workbench_analyses.circuits.sweeps import LOGITS
from workbench_analyses.circuits.tracing import Traced

SCORE = 0.5
"""Copy, induction, duplicate and previous-token scores from which a head counts as doing so."""
FINDERS = {"echo": "duplicate token", "induction": "induction", "previous": "previous token"}
LOOKERS = {"the same word": "duplicate token", "what followed it": "induction", "the token before": "previous token"}


def heads_of(
    stages: Sequence[Traced], evidence: Evidence, tau: float, named: Mapping[tuple[str, str], str]
) -> list[CircuitHead]:
    """The heads of all stages with role and evidence, stage by stage, the largest share first."""
    out = []
    for one in stages:
        for head in sorted(one.heads(tau), key=lambda h: (-abs(one.found.share[h]), h)):
            seen = _evidence(one.stage, head, evidence)
            share, low, high = (float(x[head]) for x in (one.found.share, one.found.low, one.found.high))
            out.append(
                CircuitHead(head, one.stage.name, share, low, high, _role(one.stage, seen, named, evidence), seen)
            )  # fmt: skip
    return out


def _evidence(stage: Stage, head: Place, evidence: Evidence) -> dict[str, float]:
    """Attention from the stage's label; what a mover writes; what the others find on repeated words."""
    attended = evidence.attended(stage.label, head)
    out = {f"attends {label}": value for label, value in attended.items()}
    if stage.channel != LOGITS:
        return out | {name: float(values[head]) for name, values in evidence.repeats.items()}
    label, most = next(iter(attended.items()))
    if most >= ATTENDED:
        out |= {"copies": float(evidence.copies(label)[head]), "lowers": float(evidence.copies(label, True)[head])}
    return out | {"says answer": float(evidence.says[head])}


def _role(stage: Stage, seen: Mapping[str, float], named: Mapping[tuple[str, str], str], evidence: Evidence) -> str:
    """The task's own name first; else what a head finds again, in its prompts or on repeated words; else what it reads."""
    attended = [k.removeprefix("attends ") for k, v in seen.items() if k.startswith("attends ") and v >= ATTENDED]
    if stage.channel == LOGITS:
        return _mover(seen) if attended else NO_ROLE
    looks = (evidence.relation(stage.label, x) for x in attended)
    names = [
        *(named[stage.channel, x] for x in attended if (stage.channel, x) in named),
        *(LOOKERS[look] for look in looks if look),
        *(FINDERS[k] for k in sorted(FINDERS, key=lambda k: -seen[k]) if seen[k] >= SCORE),
        *(f"reader of {x}" for x in attended),
    ]
    return names[0] if names else NO_ROLE


def _mover(seen: Mapping[str, float]) -> str:
    """Attention is there; does it write what it looks at, or its opposite, or at least the answer?"""
    if seen.get("copies", 0) >= SCORE:
        return "mover"
    if seen.get("lowers", 0) >= SCORE:
        return "negative mover"
    return "mover" if seen["says answer"] >= SCORE else NO_ROLE
