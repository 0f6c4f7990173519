"""Policies of the key-value cache: one file each, found by scanning this package.

A policy says which cached entries a head keeps (it evicts the others) or reads (it leaves the others alone), from what
its published method looks at: a list of heads, the attention of the prompt's last rows, the query at hand.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workbench.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from workbench.policies.scheme import Scheme
    from workbench.policies.setting import Setting

PREFILLS = ("full", "streaming", "chunked")
"""Who sees what while the prompt is read. full: everybody everything, then the cache is cut. streaming: every row of a
streaming head sees its window. chunked: rows see their own chunk, and the window before it."""


@dataclass(frozen=True)
class Policy:
    """One policy.

    help: what it does, in one line. source: where it is published. needs: "list" where it takes a list of key-value
    heads, "scores" where it takes a score of every query head. prefills: those that it knows, the default first. make:
    its rule with all length constants solved from the budget. published: its rule with the published constants, None
    where there are none. exact: false for a policy that is known from its abstract only, which stays off the plots.
    """

    name: str
    help: str
    source: str
    make: Callable[[Setting], Scheme]
    published: Callable[[Setting], Scheme] | None = None
    needs: Literal["", "list", "scores"] = ""
    prefills: tuple[str, ...] = ("full",)
    exact: bool = True


def discover() -> dict[str, Policy]:
    """Policies by name, sorted. Raises RuntimeError if two modules claim one name."""
    found: dict[str, Policy] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        policy = getattr(importlib.import_module(module.name), "POLICY", None)
        if not isinstance(policy, Policy):
            continue
        if policy.name in found:
            raise RuntimeError(f"{module.name} defines {policy.name!r}, which is taken")
        found[policy.name] = policy
    return dict(sorted(found.items()))


def named(text: str) -> tuple[Policy, str]:
    """A policy and its prefill by `name` or `name:prefill`. Raises BadInput for unknown ones."""
    known = discover()
    name, _, prefill = text.partition(":")
    if name not in known:
        raise BadInput(f"policy={name}: no such policy; use {', '.join(known)}.{did_you_mean(name, known)}")
    policy = known[name]
    if prefill and prefill not in policy.prefills:
        raise BadInput(f"policy={text}: {name} knows the prefill {', '.join(policy.prefills)}")
    return policy, prefill or policy.prefills[0]
