"""Whether a head's sink costs more than the same key costs other heads: paired over texts, corrected over the heads.

A difference is the change of the head itself minus the mean change of its controls in the same text. It matters if it
is MATTERS or more, its 95 % bootstrap interval lies above zero, and its q does not exceed LEVEL. That a change is not
shown does not show that there is none: a head does without its sink if even the upper bound of its own change is below
MATTERS; else the check has no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from workbench import bootstrap
from workbench.paired import rises_p

MATTERS = {"loss": 0.05, "kl": 0.01}
"""Nats from which a change counts."""
LEVEL = 0.05


class Difference(NamedTuple):
    """Own change minus the controls', in nats: mean, 95 % bootstrap interval over n texts.

    p: one-sided sign flips, at least 2^-n. q: Benjamini–Hochberg over the heads that were checked, for this edit.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float
    q: float

    def matters(self, what: str) -> bool:
        """Whether it is large enough and shown to be more than chance."""
        return self.mean >= MATTERS[what] and self.low > 0 and self.q <= LEVEL


def differences(
    own: Sequence[Float[np.ndarray, " texts"]], controls: Sequence[Float[np.ndarray, " texts"]]
) -> list[Difference]:
    """One for each head, from what an edit changes in each text; NaN: no sink there, or no controls at all.

    A head without controls is compared with no change.
    """
    from scipy.stats import false_discovery_control

    paired = [_paired(a, b) for a, b in zip(own, controls, strict=True)]
    p = np.array([rises_p(d) for d in paired])
    q = false_discovery_control(p) if len(p) else p
    return [Difference(*interval(d), len(d), float(p[i]), float(q[i])) for i, d in enumerate(paired)]


def _paired(own: Float[np.ndarray, " texts"], controls: Float[np.ndarray, " texts"]) -> Float[np.ndarray, " known"]:
    difference = own if np.isnan(controls).all() else own - controls
    return difference[~np.isnan(difference)]


def interval(x: Float[np.ndarray, " texts"]) -> tuple[float, float, float]:
    """Mean and 95 % percentile bootstrap interval; NaN without texts."""
    known = x[~np.isnan(x)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    low, high = bootstrap.percentile_interval(known[:, None], None, 0.95, 1000, 0)
    return float(known.mean()), float(low[0]), float(high[0])
