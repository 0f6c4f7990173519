"""`workbench compare A B`: how far two sets of head scores agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import chz

from workbench.command import Command

if TYPE_CHECKING:
    from workbench.comparison import Comparison
    from workbench.heads import HeadScores


@chz.chz
class Compare:
    """Two run folders or score files, in any format that `workbench formats` lists."""

    a: str = chz.field(doc="run folder or score file")
    b: str = chz.field(doc="run folder or score file to compare with")
    k: int = chz.field(default=20, doc="length of the top lists")
    threshold: float = chz.field(default=0.1, doc="score from which a head is listed (Jaccard, AUC)")
    sparsity: float | None = chz.field(
        default=None, doc="cut B at this share of streaming heads: which of A's are lost?"
    )
    kv_heads: int | None = chz.field(default=None, doc="key-value heads a layer, where the files do not say")


def run(config: Compare) -> Comparison:
    """Read both and compare them. Raises BadInput in one line."""
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


COMMAND = Command("compare", "agreement of two runs or score files", Compare, run, positional=("a", "b"))
