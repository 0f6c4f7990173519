"""The answer key of the planted circuits: which heads a task needs, which a corruption shows, and how they are joined."""

from __future__ import annotations

from workbench.circuit_parts import Edge, Place
from workbench.reference_models.planted import Roles

TASK_ROLES = {
    "ioi": ("duplicate", "previous", "induction", "inhibition", "name-mover", "negative-mover"),
    "colored-objects": ("previous", "gatherer", "colour-mover"),
}
"""Roles of which a task needs every head; backup movers are needed by none."""
HIDDEN = {("ioi", "s2-io"): ("previous",), ("colored-objects", "mindiff"): ("previous",)}
"""Roles whose heads do the same work in the corrupted prompt: patching cannot show them, ablation does."""
_JOINS = {
    "ioi": (
        ("inhibition", "name-mover", "q", "END"), ("inhibition", "negative-mover", "q", "END"),
        ("duplicate", "inhibition", "v", "S2"), ("induction", "inhibition", "v", "S2"),
    ),
    "colored-objects": (("gatherer", "colour-mover", "q", "END"),),
}  # fmt: skip
_MORE_JOINS = {
    ("ioi", "abc"): (
        ("duplicate", "inhibition", "k", "S2"), ("induction", "inhibition", "k", "S2"),
        ("previous", "induction", "k", "S1+1"), ("previous", "induction", "v", "S1+1"),
    ),
    ("colored-objects", "resample"): (("previous", "colour-mover", "v", "object"),),
}  # fmt: skip
MOVERS = {"ioi": ("name-mover", "negative-mover"), "colored-objects": ("colour-mover",)}


def needed(roles: Roles, task: str) -> set[Place]:
    """Heads that a task needs: masking them, or giving them the work of other prompts, changes its logit difference."""
    named = TASK_ROLES[task]
    if task == "ioi" and "induction" not in roles:
        named = tuple(r for r in named if r != "previous")
    return {head for role in named for head in roles.get(role, ())}


def shown(roles: Roles, task: str, corruption: str) -> set[Place]:
    """Needed heads that patching with this corruption shows."""
    hidden = HIDDEN.get((task, corruption), ())
    seen = {h for r in TASK_ROLES[task] if r not in hidden for h in roles.get(r, ())}
    return needed(roles, task) & seen


def edges(roles: Roles, task: str, corruption: str) -> set[Edge]:
    """What carries the difference between clean and corrupted prompts from head to head, and to the logits."""
    joins = (*_JOINS[task], *_MORE_JOINS.get((task, corruption), ()))
    out = {Edge(a, b, c, x) for s, r, c, x in joins for a in roles.get(s, ()) for b in roles.get(r, ())}
    return out | {Edge(h, None, "resid", "END") for role in MOVERS[task] for h in roles.get(role, ())}


def true_reuse(roles: Roles) -> tuple[float, float]:
    """Share of the smaller task's heads that the other needs too, |A ∩ B| / min(|A|, |B|); and the Jaccard index."""
    a, b = (needed(roles, task) for task in TASK_ROLES)
    return len(a & b) / min(len(a), len(b)), len(a & b) / len(a | b)
