"""The honest table: which means makes a model invent less at equal recall, in how many training seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workbench_analyses.visual.table_config import TableConfig
from workbench_analyses.visual.table_parts import ModelTable

if TYPE_CHECKING:
    from pandas import DataFrame

ENOUGH, SEEDS = 2, 3
"""Training seeds that must agree, of how many: that share of more of them; fewer show nothing."""


@dataclass(frozen=True, eq=False, repr=False)
class HonestTable:
    """One table a model; models are trainings of one recipe from several seeds. pictures: reported ones of each kind."""

    tables: tuple[ModelTable, ...]
    config: TableConfig
    pictures: dict[str, int]

    def __repr__(self) -> str:
        """The finding."""
        return f"HonestTable({self.sentence})"

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that were judged, of any model."""
        return tuple(dict.fromkeys(c.method for t in self.tables for held in t.compared.values() for c in held))

    @property
    def need(self) -> int:
        """Models that must agree: two of three, or that share of more; all of fewer."""
        return -(-ENOUGH * len(self.tables) // SEEDS)

    @property
    def found(self) -> bool:
        """Whether a method is better in enough models, and they are enough to show it."""
        return len(self.tables) >= SEEDS and any(self.shown.values())

    @property
    def shown(self) -> dict[str, dict[str, list[float]]]:
        """By kind: methods that are better in enough models, and the losses of recall at which they are."""
        return self._agreed(ModelTable.better)

    @property
    def specific(self) -> dict[str, dict[str, list[float]]]:
        """By kind: head-specific methods that invent less than the uniform one in enough models."""
        return self._agreed(ModelTable.beside)

    def _agreed(self, of: Callable[[ModelTable, str], set[tuple[str, float]]]) -> dict[str, dict[str, list[float]]]:
        out: dict[str, dict[str, list[float]]] = {}
        for kind in self.tables[0].kinds:
            counts = Counter(pair for table in self.tables for pair in of(table, kind))
            held: dict[str, list[float]] = {}
            for method, drop in sorted(pair for pair, n in counts.items() if n >= self.need):
                held.setdefault(method, []).append(drop)
            out[kind] = held
        return out

    @property
    def sentence(self) -> str:
        """The finding. Negative where nothing was found, and where fewer trainings than can show it found something."""
        if not self.methods:
            return "No method could be asked."
        parts = [self._of_kind(kind, held) for kind, held in self.shown.items()]
        told = "; ".join(parts)
        return f"{told[0].upper()}{told[1:]} ({self._test}).{self._seeds}"

    @property
    def sentence_on_heads(self) -> str:
        """Whether a strength of each head's own beats the same strength for all, at equal recall."""
        asked = {c.method for t in self.tables for held in t.compared.values() for c in held if c.beside is not None}
        if not asked:
            return ""
        found = [f"{_listed(held)} on {kind}" for kind, held in self.specific.items() if held]
        if found:
            less = f"Strengths of each head's own invent less than one for all at equal recall: {'; '.join(found)}."
            return less if len(self.tables) >= SEEDS else less + self._seeds
        return f"No strength of each head's own ({', '.join(sorted(asked))}) invents less than one for all at equal recall."

    def _of_kind(self, kind: str, held: dict[str, list[float]]) -> str:
        where = f"on {kind} pictures" if kind != "pictures" else "on these pictures"
        if not held:
            return (
                f"{where} none of {len(self.methods)} methods invents less than the plain model and than trivial means"
            )
        less = f"{_listed(held)} invents less than the plain model and than trivial means"
        if len(self.tables) >= SEEDS:
            return f"{where} {less}"
        return f"{where} nothing is shown; in {'this training' if len(self.tables) == 1 else 'both trainings'} {less}"

    @property
    def _test(self) -> str:
        drops = ", ".join(f"{100 * d:g}" for d in self.config.drops)
        counts = sorted(set(self.pictures.values()))
        said = " and ".join(map(str, counts))
        return (
            f"different invented objects at equal recall, {drops} points below the plain model's; {said} reported pictures "
            "of each kind, paired bootstrap, 95 % below both"
        )

    @property
    def _seeds(self) -> str:
        if len(self.tables) < SEEDS:
            one = "One training seed" if len(self.tables) == 1 else f"{len(self.tables)} training seeds"
            return f" {one} cannot show it: that takes {ENOUGH} of {SEEDS}."
        return f" Counted where at least {self.need} of {len(self.tables)} training seeds agree."

    def frame(self) -> DataFrame:
        """A row for each model, means, strength and kind of picture."""
        import pandas as pd

        return pd.DataFrame([{"model": t.name, **r.flat()} for t in self.tables for r in t.rows])

    def summary(self) -> dict[str, Any]:
        """The table as plain values."""
        return {
            "sentence": self.sentence, "sentence_on_heads": self.sentence_on_heads, "found": self.found,
            "better": self.shown, "head_specific": self.specific, "pictures": self.pictures, "config": asdict(self.config),
            "models": [t.summary() for t in self.tables],
        }  # fmt: skip

    def blocks(self) -> list[Any]:
        """The table as blocks of a page."""
        from workbench_analyses.visual.table_blocks import blocks

        return blocks(self)


def _listed(held: dict[str, list[float]]) -> str:
    return ", ".join(f"{m} (at −{', −'.join(f'{100 * d:g}' for d in drops)})" for m, drops in held.items())
