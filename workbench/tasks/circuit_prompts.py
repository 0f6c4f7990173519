"""Prompts of circuit tasks: clean and corrupted of one length, two answers, and spans labelled by construction."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Int
    from torch import Tensor

Span = tuple[int, int]
"""(start, end) columns of the tokens."""


@dataclass(frozen=True)
class CircuitPrompt:
    """A pair of prompts as token ids, of one length and with the labelled spans at the same columns of both.

    answers: the token that the clean prompt asks for, and the one that it must be preferred to. template: what rows
    share that a mean may be taken over. text: the clean prompt in words.
    """

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    answers: tuple[int, int]
    spans: Mapping[str, Span]
    template: str
    text: str

    def __post_init__(self) -> None:
        """Refuse what cannot be compared position by position."""
        if len(self.clean) != len(self.corrupted):
            lengths = f"{len(self.clean)} and {len(self.corrupted)} tokens"
            raise BadInput(f"{self.text!r}: the clean and the corrupted prompt have {lengths}; give two of one length")
        if self.answers[0] == self.answers[1]:
            raise BadInput(f"{self.text!r}: both answers are token {self.answers[0]}; give two that differ")


@dataclass(frozen=True)
class CircuitRows:
    """Prompts as left-padded rows, so that every row ends in its last column. mask: False on padding; None: no padding.

    spans: of each row, in its own columns, padding included.
    """

    clean: Int[Tensor, "b n"]
    corrupted: Int[Tensor, "b n"]
    answers: Int[Tensor, "b 2"]
    mask: Bool[Tensor, "b n"] | None
    spans: tuple[Mapping[str, Span], ...]

    def at(self, label: str) -> Int[Tensor, " b"]:
        """The last column of a label's span in each row. Raises BadInput where a row has no such label."""
        import torch

        lacking = [i for i, spans in enumerate(self.spans) if label not in spans]
        if lacking:
            every = [x for x in self.spans[lacking[0]] if all(x in s for s in self.spans)]
            raise BadInput(f"no {label!r} in row {lacking[0]}.{did_you_mean(label, every)} All have {', '.join(every)}")
        return torch.tensor([spans[label][1] - 1 for spans in self.spans], device=self.clean.device)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that all rows have, in the order of the first row's."""
        return tuple(label for label in self.spans[0] if all(label in s for s in self.spans))

    def to(self, device: torch.device | str) -> CircuitRows:
        """The same on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        clean, corrupted, answers = (x.to(device) for x in (self.clean, self.corrupted, self.answers))
        return CircuitRows(clean, corrupted, answers, mask, self.spans)


@dataclass(frozen=True)
class CircuitPrompts:
    """Prompts of a task. left_out: words and templates that this tokenizer does not hold as the task needs them."""

    task: str
    prompts: tuple[CircuitPrompt, ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many prompts."""
        return len(self.prompts)

    def rows(self, which: Sequence[int] | range | None = None) -> CircuitRows:
        """Some prompts, or all, as rows of one batch."""
        return circuit_rows(self.prompts if which is None else [self.prompts[i] for i in which])


def circuit_rows(prompts: Sequence[CircuitPrompt]) -> CircuitRows:
    """Prompts of any lengths as left-padded rows. Raises BadInput where there is none."""
    import torch

    if not prompts:
        raise BadInput("no prompts: ask for at least one")
    n = max(len(p.clean) for p in prompts)
    pads = torch.tensor([n - len(p.clean) for p in prompts])
    clean, corrupted = (
        torch.tensor([[0] * (n - len(ids)) + list(ids) for ids in side])
        for side in ([p.clean for p in prompts], [p.corrupted for p in prompts])
    )
    moved = tuple(
        MappingProxyType({k: (a + pad, b + pad) for k, (a, b) in p.spans.items()})
        for p, pad in zip(prompts, pads.tolist(), strict=True)
    )
    mask = torch.arange(n) >= pads[:, None] if bool(pads.any()) else None
    return CircuitRows(clean, corrupted, torch.tensor([p.answers for p in prompts]), mask, moved)


@dataclass(frozen=True)
class CircuitTask:
    """A task that circuits are traced on. make(tokenizer, n, seed, **options) gives its prompts.

    corruptions: what may be asked for as `corruption`; the first is the default. foil_free: those whose corrupted
    prompt asks for neither answer, fit for means and resampling. roles: what a head is called that tells receivers by a
    channel what it reads at a label, (channel, label).
    """

    name: str
    summary: str
    make: Callable[..., CircuitPrompts]
    corruptions: tuple[str, ...]
    foil_free: tuple[str, ...] = ()
    roles: Mapping[tuple[str, str], str] = field(default_factory=dict)


def circuit_tasks() -> dict[str, CircuitTask]:
    """Circuit tasks by name, sorted: one file of this package each, with one frozen `TASK` value."""
    import workbench.tasks as home

    modules = (importlib.import_module(m.name) for m in pkgutil.iter_modules(home.__path__, f"{home.__name__}."))
    found = [task for m in modules if isinstance(task := getattr(m, "TASK", None), CircuitTask)]
    return {task.name: task for task in sorted(found, key=lambda t: t.name)}


def checked_corruption(corruption: str, known: Sequence[str]) -> str:
    """Raises BadInput, with the nearest, unless it is known."""
    if corruption not in known:
        raise BadInput(f"corruption={corruption}: use one of {', '.join(known)}.{did_you_mean(corruption, known)}")
    return corruption


def circuit_task(name: str) -> CircuitTask:
    """A task by its name. Raises BadInput, with the nearest, for an unknown one."""
    known = circuit_tasks()
    if name not in known:
        raise BadInput(f"task={name}: no circuit task.{did_you_mean(name, known)} Tasks: {', '.join(known)}")
    return known[name]


def make_prompts(task: str, tokenizer: Any, n: int, seed: int = 0, **options: Any) -> CircuitPrompts:
    """n prompts of a task by its name. Raises BadInput, with the nearest name, for an unknown one and for n < 1."""
    make = circuit_task(task).make
    if n < 1:
        raise BadInput(f"n={n}: ask for at least one prompt")
    return make(tokenizer, n, seed, **options)
