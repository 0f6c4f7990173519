"""LU-KV budget curves (arXiv 2602.08585; kvpress LUKVPress): how much of each head's cache goes at every global ratio.

A float array [99, layers, kv heads]; entry r - 1 holds the share that each head prunes when r % of all entries go.
"""

from __future__ import annotations

import io
import math
import tokenize
from pathlib import Path

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.untrusted import LARGEST_CONFIG, read_bytes

CURVES = "lukv_curves.npy"
RATIOS = np.arange(1, 100) / 100


def curves(prune: Float[np.ndarray, "layers kv"]) -> Float[np.ndarray, "99 layers kv"]:
    """Curves through per-head prune shares: at their own mean they hold exactly, and at every ratio the mean is it.

    Below that mean all shares shrink alike, above it what is left of every head shrinks alike. For budgets of b entries
    at N tokens, prune = 1 - b / N.
    """
    own, ratio = float(prune.mean()), RATIOS[:, None, None]
    below = prune * (ratio / own if own else 0.0)
    above = prune + (1 - prune) * ((ratio - own) / (1 - own) if own < 1 else 0.0)
    return np.where(ratio <= own, below, above)


def write(split: Split) -> Written:
    """Curves of the cut: streaming heads prune all but their window at `context` tokens, full heads nothing."""
    how = split.how
    if how.context is None:
        raise BadInput("format=lu-kv counts windows as shares: give context=TOKENS, the length that is served")
    prune = np.where(split.full, 0.0, 1 - min(1.0, how.window / how.context))
    own = float(prune.mean())
    note = f"streaming heads keep {how.window} of {how.context:,} tokens at compression_ratio={own:.4f}"
    return Written({CURVES: curves_file(curves(prune))}, (note,))


def read_curves(path: Path) -> Float[np.ndarray, "99 layers kv"]:
    """The array as it is. Raises BadInput for other shapes, pickles, and shares outside 0…1."""
    data = read_bytes(path, LARGEST_CONFIG)
    try:
        version = np.lib.format.read_magic(stream := io.BytesIO(data))
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        whole = len(shape) == 3 and shape[0] == len(RATIOS) and min(shape) > 0 and dtype.kind == "f"
        if not whole or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise ValueError(f"it holds {dtype} of shape {shape}")
        found = np.load(io.BytesIO(data), allow_pickle=False).astype(float)
    except (ValueError, TypeError, OSError, EOFError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        raise BadInput(f"{path} is no array of curves [99, layers, kv heads]: {' '.join(str(error).split())}") from None
    if not (np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1):
        raise BadInput(f"{path} holds prune shares outside 0…1")
    return found


def read(path: Path, shape: Shape) -> HeadScores:
    """A score per kv head: the share that it keeps, averaged over all ratios."""
    kept = 1 - read_curves(path).mean(0)
    return HeadScores(kept, "imported/lu-kv", {"score": "kept share, mean over 99 ratios"}, kv_heads=kept.shape[1])


def curves_file(array: Float[np.ndarray, "99 layers kv"]) -> bytes:
    """The file of an array of curves."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


EXPORTER = Exporter(
    name="lu-kv",
    help="prune-ratio curves of kv heads: kvpress 0.5.5, LUKVPress",
    marker=CURVES,
    also=("*.npy",),
    write=write,
    read=read,
    level="kv",
    use='in Python: press._budget_curves = numpy.load("FOLDER/lukv_curves.npy") before "with press(model)"',
)
