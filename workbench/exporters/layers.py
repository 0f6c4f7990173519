"""From heads to whole layers, for servers whose windows are per layer: what that loses, and when it is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from workbench.errors import BadInput
from workbench.exporters.cut import kv_share
from workbench.exporters.split import Split
from workbench.head_sets import Head, HeadSet


@dataclass(frozen=True, eq=False)
class Layers:
    """Layers that stay full. lost: full heads in layers with a window; over: streaming heads in layers without."""

    full: Bool[np.ndarray, " layers"]
    lost: HeadSet
    over: int

    def written(self, split: Split) -> Split:
        """The same cut with whole layers, as the server will hold it: its share of the cache and its losses are these."""
        assert split.cut is not None
        full = np.repeat(self.full[:, None], split.full.shape[1], 1)
        facts = dict(split.cut.facts)
        if split.how.context is not None:
            facts["kv_share"] = kv_share(full, split.how)
        cut = replace(split.cut, full=full, rule=f"{split.cut.rule}, then whole layers", per_rank=(), facts=facts)
        return replace(split, cut=cut)

    def note(self, heads: int) -> str:
        """In words."""
        said = f"{int((~self.full).sum())} of {len(self.full)} layers have a window; {self.over} of {heads} heads keep more"
        return f"{said} than they need; full heads cut: {self.lost or 'none'}"


def whole_layers(split: Split, share: float, force: bool) -> Layers:
    """Layers with at most this share of full heads get a window; at 0 none loses a full head.

    Raises BadInput where a full head would be cut, unless forced, and where no layer could have a window.
    """
    if not 0 <= share <= 1:
        raise BadInput(f"share={share:g} is a share of a layer's heads: give 0 to 1")
    full = split.full.mean(1) > share
    cut = split.full & ~full[:, None]
    lost = HeadSet(tuple(Head(int(i), int(j)) for i, j in np.argwhere(cut)))
    if len(lost) and not force:
        raise BadInput(f"share={share:g} cuts {len(lost)} full heads ({_some(lost)}): force=true does it all the same")
    if full.all():
        raise BadInput(
            "every layer holds a full head, so no layer can have a window: a higher sparsity=, or share= and force=true"
        )
    return Layers(full, lost, int((~split.full & full[:, None]).sum()))


def _some(heads: HeadSet, most: int = 6) -> str:
    return " ".join(map(str, heads.heads[:most])) + (" …" if len(heads) > most else "")
