"""`workbench compare A B`: how far two sets of head scores agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import chz

from workbench.command import Command

if TYPE_CHECKING:
    from workbench.comparison import Comparison


@chz.chz
class Compare:
    """Two run folders or score files, in any format that `workbench formats` lists."""

    a: str = chz.field(doc="run folder or score file")
    b: str = chz.field(doc="run folder or score file to compare with")
    k: int = chz.field(default=20, doc="length of the top lists")
    threshold: float = chz.field(default=0.1, doc="score from which a head is listed (Jaccard, AUC)")
    kv_heads: int | None = chz.field(default=None, doc="key-value heads a layer, where the files do not say")


def run(config: Compare) -> Comparison:
    """Read both and compare them. Raises BadInput in one line."""
    from workbench.scores_io import read_scores

    a, b = (read_scores(path, config.kv_heads) for path in (config.a, config.b))
    return a.compare(b, k=config.k, threshold=config.threshold)


COMMAND = Command("compare", "agreement of two runs or score files", Compare, run, positional=("a", "b"))
