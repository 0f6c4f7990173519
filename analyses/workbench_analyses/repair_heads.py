"""Does pointing some heads elsewhere mend a task? `workbench repair-heads`.

The pattern edit of Merullo et al. 2023 (arXiv 2310.08744, section 5): the last token's row of the named heads gives equal
weight to labelled tokens and none to others. The labels hold the answer, so this is an oracle; two controls say what of it
is due to these tokens and to these heads: the same heads at random tokens, and random heads of the same layers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import MODEL, MemoryOptions
from workbench.option_values import MISFITS, at_least, either, one_of

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.circuits.repair_result import Repair

ONTO = {"colored-objects": ("wrong-colour", "other-colour")}
"""Labels that heads are pointed at unless given: in the paper, the listed colours that are not the answer."""
LEAST = 16
_HEAD = re.compile(r"L?(\d+)[.H](\d+)")


@chz.chz
class RepairHeads(MemoryOptions):
    """Options of the experiment."""

    model: str = chz.field(default="planted-ioi", doc=MODEL)
    heads: tuple[str, ...] = chz.field(doc="heads that are pointed elsewhere, as 12.3,13.4 (layer.head, from 0)")
    task: str = chz.field(default="colored-objects", doc="circuit task with labelled prompts")
    onto: tuple[str, ...] | None = chz.field(
        default=None, doc="labels whose tokens get the weight; colored-objects: wrong-colour,other-colour"
    )
    samples: int = chz.field(default=200, doc="prompts")
    draws: int = chz.field(default=19, doc="of random tokens, and of random heads")
    misfits: str = chz.field(default="replace", doc=f"words that are not one token: {either(MISFITS)}")
    bos: bool | None = chz.field(default=None, doc="begin prompts with BOS; default: as the tokenizer does")
    force: bool = chz.field(default=False, doc="go on where the model cannot do the task")
    seed: int = chz.field(default=0, doc="draws prompts and controls")
    batch: int = chz.field(default=50, doc="prompts at a time")

    @chz.validate
    def _sane(self) -> None:
        one_of("misfits", self.misfits, MISFITS)
        heads_of(self.heads)
        if self.onto is not None and (not self.onto or len(set(self.onto)) < len(self.onto)):
            raise BadInput(f"onto={','.join(self.onto)}: give labels, each once")
        at_least(self, samples=LEAST)
        if self.draws < 19:
            raise BadInput(f"draws={self.draws}: fewer than 19 draws can give no p of .05")

    def question_asked(self) -> dict[str, Any]:
        """Every option that can change a number, however it was written."""
        return {**super().question_asked(), "heads": heads_of(self.heads), "onto": self.labels}

    @property
    def labels(self) -> tuple[str, ...]:
        """What the heads are pointed at. Raises BadInput where neither the user nor the task says it."""
        labels = self.onto or ONTO.get(self.task)
        if labels is None:
            raise BadInput(f"task={self.task}: say with onto= at which labelled tokens the heads shall look")
        return labels


def heads_of(words: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(layer, head) of 12.3 or L12H3, in order. Raises BadInput for anything else, for none, and for one named twice."""
    found = [_HEAD.fullmatch(word.strip()) for word in words]
    if not found or not all(found):
        bad = ", ".join(w for w, m in zip(words, found, strict=True) if m is None) or "none"
        raise BadInput(f"heads={bad}: write layer.head, as in heads=12.3,13.4")
    heads = [(int(m[1]), int(m[2])) for m in found if m]
    if len(set(heads)) < len(heads):
        raise BadInput(f"heads={','.join(words)}: name each head once")
    return tuple(sorted(heads))


def repair(model: Model | str | RepairHeads = "planted-ioi", **options: Any) -> Repair:
    """Point heads at labelled tokens, with both controls; writes nothing unless `out=` is given.

    model: a loaded Model, a live TransformerBridge, a name, or a whole RepairHeads config. options: the fields of
    RepairHeads; heads also as (layer, head) pairs. Raises BadInput and ModelError in one line.
    """
    if "heads" in options:
        given = options["heads"]
        given = given.split(",") if isinstance(given, str) else given
        options["heads"] = tuple(h if isinstance(h, str) else f"{h[0]}.{h[1]}" for h in given)
    elif not isinstance(model, RepairHeads):
        raise BadInput("heads= is missing: name heads as layer.head, as in heads=12.3,13.4")
    config, loaded = entered(RepairHeads, model, options)
    _check(config)
    check_cheaply(config, loaded)
    from workbench_analyses.circuits.repairing import run_repair

    return run_repair(config, loaded)


def _check(config: RepairHeads) -> None:
    """What is wrong is said before torch is imported, which takes seconds."""
    from workbench.tasks.circuit_prompts import circuit_task

    circuit_task(config.task)
    config.labels  # noqa: B018 - raises where nobody says them


COMMAND = Command(
    "repair-heads", "point heads at labelled tokens: does it mend the task, and would others do as well?", RepairHeads,
    repair,
)  # fmt: skip
