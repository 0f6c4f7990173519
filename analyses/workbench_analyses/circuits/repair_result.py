"""The result of a repair: accuracy before and after, both controls, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float

from workbench.controls import Heads, p_value
from workbench.heads import ModelIdentity
from workbench.paired import discordant, mcnemar_p
from workbench.reported import OfCommand
from workbench.views.masking import wilson
from workbench_analyses.repair_heads import COMMAND, RepairHeads

LEVEL = 0.05


@dataclass(frozen=True)
class Arm:
    """One way to run the prompts. accuracy: share whose likeliest token, over the whole vocabulary, is the answer, with
    its 95 % Wilson interval. difference: mean logit of the answer less that of its foil; preferred: prompts where it is
    above 0. mended, spoiled: prompts that become right, wrong, against no edit; p: exact McNemar test of them.
    """

    n: int
    accuracy: float
    low: float
    high: float
    difference: float
    preferred: int
    mended: int
    spoiled: int
    p: float

    @classmethod
    def of(
        cls, before: Bool[np.ndarray, " n"], right: Bool[np.ndarray, " n"], difference: Float[np.ndarray, " n"]
    ) -> Self:
        """From which prompts are right without and with the edit."""
        mended, spoiled = discordant(before, right[None])
        accuracy = float(right.mean())
        return cls(
            len(right), accuracy, *wilson(accuracy, len(right)), float(difference.mean()), int((difference > 0).sum()),
            int(mended[0]), int(spoiled[0]), float(mcnemar_p(mended, spoiled)[0]),
        )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Repair(OfCommand):
    """What pointing some heads at labelled tokens does to a task.

    base: no edit. repaired: the heads at the labels, which takes the answer's label to do (an oracle). random_tokens: the
    same heads at as many random other tokens, drawn anew for every prompt. random_heads: as many random other heads in
    each layer at the labels; enumerated: all there are.
    """

    typed = COMMAND
    always = ("model", "heads", "task")

    config: RepairHeads
    model_label: str
    model: ModelIdentity
    heads: Heads
    base: Arm
    repaired: Arm
    random_tokens: tuple[Arm, ...]
    random_heads: tuple[Arm, ...]
    enumerated: bool
    left_out: tuple[str, ...]
    cost: dict[str, float]
    path: str | None = None

    def p_against(self, controls: Sequence[Arm]) -> float | None:
        """(1 + control draws with at least the accuracy) / (1 + draws); None without a control."""
        return p_value(self.repaired.accuracy, [c.accuracy for c in controls]) if controls else None

    @property
    def named(self) -> str:
        """The heads as people write them."""
        return " ".join(f"L{layer}H{head}" for layer, head in self.heads)

    @property
    def mends(self) -> bool:
        """Whether accuracy rises, and more than with other tokens and with other heads, as far as so many can tell."""
        ps = [self.p_against(self.random_tokens), self.p_against(self.random_heads)]
        least = [1 / (1 + self.config.draws), 1 / (1 + len(self.random_heads)) if self.enumerated else 0.0]
        rises = self.repaired.mended > self.repaired.spoiled and self.repaired.p <= LEVEL
        return rises and all(p is not None and p <= max(LEVEL, few) for p, few in zip(ps, least, strict=True))

    @property
    def verdict(self) -> str:
        """The finding in a line; the oracle is called one."""
        r, b = self.repaired, self.base
        rises, onto = r.mended > r.spoiled, " and ".join(self.config.labels)
        word = ("rises" if rises else "falls") if r.p <= LEVEL else "is NOT shown to change"
        out = (
            f"with the label in hand (an oracle), {self.named} at {onto}: accuracy {word} ({b.accuracy:.1%} → "
            f"{r.accuracy:.1%}, n = {r.n}, McNemar p = {r.p:.2g}; {r.mended} mended, {r.spoiled} new mistakes)"
        )
        if rises and r.p <= LEVEL:
            out += ", more than with both controls" if self.mends else ", NOT shown to be more than with both controls"
        return f"{out}; random tokens: {_range(self.random_tokens)}; random heads: {_range(self.random_heads)}"

    def rows(self) -> list[dict[str, Any]]:
        """One row an arm, as in arms.parquet."""
        named = [("no edit", self.base), ("repaired", self.repaired)]
        named += [("random tokens", a) for a in self.random_tokens] + [("random heads", a) for a in self.random_heads]
        return [{"arm": name, **asdict(arm)} for name, arm in named]

    def summary(self) -> dict[str, Any]:
        """The experiment as plain values."""
        return {
            "model": self.model_label, "verdict": self.verdict, "mends": self.mends, "oracle": True,
            "task": self.config.task, "heads": [list(h) for h in self.heads], "onto": list(self.config.labels),
            "base": asdict(self.base), "repaired": asdict(self.repaired),
            "random_tokens": {"accuracy": [a.accuracy for a in self.random_tokens], "p": self.p_against(self.random_tokens)},
            "random_heads": {
                "accuracy": [a.accuracy for a in self.random_heads], "p": self.p_against(self.random_heads),
                "all": self.enumerated,
            },
            "left_out": list(self.left_out), "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.circuits.repair_views import report

        return report(self)

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.circuits.repair_views import terminal

        return terminal(self)


def _range(controls: Sequence[Arm]) -> str:
    accuracy = [c.accuracy for c in controls]
    if not accuracy:
        return "none exist, so not controlled"
    return f"{np.mean(accuracy):.1%} ({min(accuracy):.1%} to {max(accuracy):.1%})"
