"""What is simulated: policy by policy and budget by budget, with the random lists beside the heads under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.controls import matched_lists
from workbench.errors import BadInput, Unsupported
from workbench.models import Model
from workbench.policies import Policy, named
from workbench.policies.scheme import Scheme
from workbench.policies.setting import Setting, TooTight
from workbench.simulation.windowed import Rotary
from workbench_analyses.kv_policies import Simulate


@dataclass(frozen=True)
class Variant:
    """One policy at one budget, or (budget None) with its published constants."""

    text: str
    policy: Policy
    prefill: str
    budget: float | None

    @property
    def label(self) -> str:
        """As it stands on plots and in tables."""
        return self.text if self.budget is not None else f"{self.text}, published"

    @property
    def unit(self) -> str:
        """A name for the run folder."""
        return f"{self.text.replace(':', '-')}-{'published' if self.budget is None else f'{self.budget:g}'}"

    def looks_at(self, setting: Setting) -> Any:
        """What of the heads under test decides what it gives."""
        return {"list": setting.ranked, "scores": setting.scores}.get(self.policy.needs)

    def scheme(self, setting: Setting) -> Scheme:
        """The policy's rule. Raises TooTight where the budget is too small for it."""
        own = replace(setting, prefill=self.prefill, budget=1.0 if self.budget is None else self.budget)
        if self.budget is not None:
            return self.policy.make(own)
        assert self.policy.published is not None
        return self.policy.published(own)


def variants(config: Simulate, setting: Setting, model: Model) -> tuple[list[Variant], list[str]]:
    """All that can be simulated, and a line for each that cannot: for its budget, or on this model.

    Raises BadInput where nothing is left.
    """
    out, refused = [], []
    for text in config.policy:
        policy, prefill = named(text)
        asked: list[float | None] = list(config.budgets)
        if config.published and policy.published is not None:
            asked.append(None)
        for budget in asked:
            variant = Variant(text, policy, prefill, budget)
            try:
                if variant.scheme(setting).renumbered:
                    Rotary.of(model)
            except TooTight as error:
                refused.append(f"{variant.label}: {error}")
            except Unsupported as error:
                refused.append(f"{text}: {error}")  # at any budget
                break
            else:
                out.append(variant)
    if not out:
        raise BadInput("no policy can be simulated: " + "; ".join(refused))
    return out, refused


def fits(variant: Variant, setting: Setting) -> bool:
    """Whether a variant can be meant there: prompts of another kind may be shorter than those it was chosen for."""
    try:
        variant.scheme(setting)
    except TooTight:
        return False
    return True


def left_out(chosen: Sequence[Variant], settings: Mapping[str, Setting]) -> list[str]:
    """A line for each kind of prompts that variants are not asked on."""
    out = []
    for kind, setting in settings.items():
        if names := [v.label for v in chosen if not fits(v, setting)]:
            out.append(f"{kind}, prompts of {setting.tokens} tokens: {', '.join(names)}")
    return out


def controls(variant: Variant, setting: Setting, draws: int, seed: int) -> list[Setting]:
    """The same setting with random heads: as many in each layer as the list has, or scores shuffled within layers.

    None for policies that take no list.
    """
    if not draws or variant.budget is None:
        return []
    if variant.policy.needs == "scores":
        return [replace(setting, scores=_shuffled(setting, seed + i)) for i in range(draws)]
    if variant.policy.needs != "list":
        return []
    k = int(variant.scheme(setting).constants["full_heads"])
    lists, _ = matched_lists(tuple(setting.ranked[:k]), list(setting.ranked), draws, seed) if k else ([], False)
    return [replace(setting, ranked=_first(drawn, setting.ranked)) for drawn in lists]


def _first(drawn: Sequence[tuple[int, int]], ranked: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [*drawn, *(head for head in ranked if head not in drawn)]


def _shuffled(setting: Setting, seed: int) -> dict[int, Any]:
    rng = np.random.default_rng(seed)
    assert setting.scores is not None
    return {layer: rng.permutation(setting.scores[layer]) for layer in setting.layers}
