"""What does a policy of the key-value cache cost in quality? `workbench simulate`.

Every policy at equal budgets, sinks and windows included, with exact attention over what it keeps, on the same needles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import BudgetedOptions
from workbench.option_values import at_least, one_of, percentages
from workbench.unasked import named_by

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.kv.result import Simulation

QUESTIONS = ("seen", "after")
POLICIES = ("streaming", "duo", "razor", "snapkv", "adakv", "pyramidkv", "headkv", "topk")
LEAST = 128


@chz.chz
class Simulate(BudgetedOptions):
    """Options of the simulation."""

    heads: str | None = chz.field(
        default=None, doc="run folder or score file with the heads under test; default: needles find them here"
    )
    model: str | None = chz.field(default=None, doc="bundled name, folder or hub id; default: that of heads=, or llama")
    policy: tuple[str, ...] = chz.field(
        default=POLICIES, doc="policies, each as name or name:prefill (full, streaming, chunked)"
    )
    budgets: tuple[float, ...] = chz.field(
        default=(0.05, 0.1, 0.2, 0.3, 0.5, 0.7), doc="shares of all key-value entries, sinks and windows included"
    )
    published: bool = chz.field(default=True, doc="also a point with each policy's published constants")
    context: int = chz.field(default=1024, doc="tokens of a prompt")
    samples: int = chz.field(default=32, doc="needles")
    texts: int = chz.field(default=8, doc="texts without a needle, for the perplexity; 0: none")
    tasks: tuple[str, ...] = chz.field(
        default=("multikey", "multivalue"), doc="needle tasks of RULER, generated: multikey, multivalue; none"
    )
    rows: int = chz.field(default=8, doc="prompts of each task")
    ruler: str | None = chz.field(
        default=None, doc="your rows: a .jsonl with RULER's input and outputs, or kvpress' context, question, answer"
    )
    depths: tuple[float, ...] = chz.field(default=(5, 20, 35, 50, 65, 80), doc="needle depths in percent")
    question: str = chz.field(default="seen", doc="seen: the cache is cut behind the question; after: before it")
    chunk: int = chz.field(default=256, doc="tokens of a chunk, where the prompt is read by chunks")
    draws: int = chz.field(
        default=9, doc="random lists that the heads under test are compared with: p is at least 1/(1 + draws); 0: none"
    )
    haystack: str | None = chz.field(default=None, doc="your haystack: a text file or a folder of .txt files")
    template: str = chz.field(default="auto", doc="auto, chat or none")
    seed: int = chz.field(default=0, doc="draws needles, haystacks and random lists")
    batch: int = chz.field(default=16, doc="prompts in one forward")

    @chz.validate
    def _sane(self) -> None:
        one_of("question", self.question, QUESTIONS)
        if not self.policy or len(set(self.policy)) < len(self.policy):
            raise BadInput(f"policy={','.join(self.policy)}: name at least one policy, each once")
        wrong = [b for b in self.budgets if not 0 < b < 1]
        if not self.budgets or wrong:
            raise BadInput(f"budgets={','.join(f'{b:g}' for b in wrong or self.budgets)}: shares between 0 and 1")
        percentages("depths", self.depths)
        at_least(self, context=LEAST, samples=2, texts=0, rows=1, chunk=1, draws=0)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The tasks that are generated."""
        return () if self.tasks == ("none",) else self.tasks


def simulate(model: Model | str | Simulate = "llama", **options: Any) -> Simulation:
    """Quality and cost of cache policies at equal budgets; writes nothing unless `out=` is given.

    model: a loaded Model, a live TransformerBridge, a name, or a whole Simulate config. options: the fields of Simulate.
    Raises BadInput and ModelError in one line.
    """
    config, loaded = entered(Simulate, model, options)
    unsaid = config.model is None
    config = chz.replace(config, model=model_of(config.heads) if unsaid else config.model)
    _check(config)
    with named_by(config.heads if unsaid else None):
        check_cheaply(config, loaded)
        from workbench_analyses.kv.experiment import run_experiment

        return run_experiment(config, loaded)


def model_of(heads: str | None) -> str:
    """The model that a run of heads was made on, else the bundled one."""
    from pathlib import Path

    from workbench.run_record import read_run

    if heads is None or not (Path(heads) / "run.json").is_file():
        return "llama"
    return str(read_run(heads)["question"].get("model", "llama"))


def _check(config: Simulate) -> None:
    """What is wrong is said before a model is loaded, which takes seconds."""
    from pathlib import Path

    from workbench.policies import named
    from workbench.tasks.ruler import read_rows
    from workbench.tasks.ruler_needles import TASKS

    for text in config.policy:
        named(text)
    for task in config.kinds:
        one_of("tasks", task, tuple(TASKS))
    if config.ruler is not None:
        read_rows(config.ruler)
    if config.heads is not None and not Path(config.heads).exists():
        raise BadInput(f"heads={config.heads} does not exist: name a run folder or a score file")


COMMAND = Command("simulate", "quality against key-value budget, policy by policy", Simulate, simulate, ("heads",))
