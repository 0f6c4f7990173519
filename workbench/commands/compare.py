"""`workbench compare A B`: how far two sets of head scores agree, or two runs of a kind that compares itself (circuits)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import chz

from workbench.command import Command, Result, RunKind
from workbench.errors import BadInput
from workbench.option_values import at_most

if TYPE_CHECKING:
    from workbench.comparison import Comparison
    from workbench.heads import HeadScores

OF_SCORES = ("k", "threshold", "sparsity", "kv_heads")
OF_RUNS = (
    "transfer", "samples", "controls", "ablation", "draws", "resamples", "halvings", "seed", "device",
    "trust_remote_code", "memory", "out",
)  # fmt: skip


@chz.chz
class Compare:
    """Two run folders or score files, in any format that `workbench formats` lists; two runs of trace-circuit: reuse."""

    a: str = chz.field(doc="run folder or score file")
    b: str = chz.field(doc="run folder or score file to compare with")
    k: int = chz.field(default=20, doc="length of the top lists")
    threshold: float = chz.field(default=0.1, doc="score from which a head is listed (Jaccard, AUC)")
    sparsity: float | None = chz.field(
        default=None, doc="cut B at this share of streaming heads: which of A's are lost?"
    )
    kv_heads: int | None = chz.field(default=None, doc="key-value heads a layer, where the files do not say")
    transfer: bool = chz.field(default=True, doc="circuits: run each on the other's prompts; loads the models")
    samples: int = chz.field(default=50, doc="circuits: prompts of each task for that")
    controls: int = chz.field(default=99, doc="circuits: random ones with as many heads in each layer")
    ablation: str = chz.field(default="resample", doc="circuits: what heads outside one give: resample, mean or zero")
    draws: int = chz.field(default=10_000, doc="circuits: shuffles within layers, for ranks and edges")
    resamples: int = chz.field(default=1000, doc="circuits: bootstrap samples of the prompts")
    halvings: int = chz.field(default=100, doc="circuits: random halvings of the prompts, for the ceiling")
    seed: int = chz.field(default=0, doc="circuits: draws shuffles, resamples, prompts and random circuits")
    device: str | None = chz.field(default=None, doc="circuits: cpu, cuda, …; default: cuda where there is one")
    trust_remote_code: bool = chz.field(default=False, doc="circuits: run code that comes with the models")
    memory: str = chz.field(default="500MB", doc="circuits: bytes that head sets at work may take")
    out: str | None = chz.field(default=None, doc="circuits: folder for report.html and reuse.json")

    @chz.validate
    def _counted(self) -> None:
        at_most(self)


def run(config: Compare) -> Result:
    """Compare two runs of one kind in its own way, anything else by its scores. Raises BadInput in one line."""
    from workbench.discovery import run_kinds

    for kind in run_kinds():
        held = [kind.holds(path) for path in (config.a, config.b)]
        if all(held):
            options = {name: getattr(config, name) for name in _given(config, OF_RUNS)}
            _refuse(config, OF_SCORES, f"is of head scores, and both runs hold {kind.name}")
            return kind.compare(config.a, config.b, **options)
        if any(held):
            _refuse_mixed(config, kind, held)
    _refuse(config, OF_RUNS, "is of circuits (two runs of trace-circuit), and these are head scores")
    return _scores(config)


def _given(config: Compare, names: tuple[str, ...]) -> list[str]:
    """Options that differ from their defaults."""
    return [name for name in names if getattr(config, name) != chz.chz_fields(config)[name]._default]


def _refuse(config: Compare, names: tuple[str, ...], why: str) -> None:
    for name in _given(config, names):
        raise BadInput(f"{name}= {why}: leave it out")


def _refuse_mixed(config: Compare, kind: RunKind, held: list[bool]) -> None:
    """Raises BadInput; a path where there is nothing is named as such by whoever reads scores."""
    this, other = (config.a, config.b) if held[0] else (config.b, config.a)
    if not Path(other).exists():
        return
    raise BadInput(f"{this} holds {kind.name}, {other} does not: give two such runs, or the score files of both")


def _scores(config: Compare) -> Comparison:
    from workbench.exporters.provenance import ShapeUnknown
    from workbench.scores_io import read_scores

    try:
        a, b = read_scores(config.a, config.kv_heads), None
    except ShapeUnknown:  # a list of heads: the other side tells of how many
        b = read_scores(config.b, config.kv_heads)
        a = _like(config.a, b)
    if b is None:
        try:
            b = read_scores(config.b, config.kv_heads)
        except ShapeUnknown:
            b = _like(config.b, a)
    return a.compare(b, k=config.k, threshold=config.threshold, sparsity=config.sparsity)


def _like(path: str, other: HeadScores) -> HeadScores:
    """A list of heads, with as many layers and heads as its partner has."""
    from workbench.scores_io import read_scores

    return read_scores(path, other.kv_heads, layers=other.n_layers, heads=other.n_heads)


COMMAND = Command(
    "compare", "agreement of two runs or score files, reuse of two circuits", Compare, run, positional=("a", "b")
)
