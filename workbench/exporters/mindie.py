"""MindIE / msModelSlim RazorAttention: `head.pt`, a torch-saved dict of key-value heads by layer.

{"prefix_matching": {layer: [kv head, …]}, "copying": {…}}: induction and echo heads; layers without heads are left out.
Older ports call the file win.pt and the second key copying_matching. A list is written under prefix_matching.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.patterns import by_layer, from_lists, pattern_scores
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.exporters.torch_files import plain_object
from workbench.heads import HeadScores
from workbench.untrusted import read_bytes

FILE = "head.pt"
KEYS = {"prefix_matching", "copying", "copying_matching"}


def write(split: Split) -> Written:
    """The dict, through torch.save."""
    import torch

    torch.save({"prefix_matching": by_layer(split.full), "copying": {}}, buffer := io.BytesIO())
    note = "RazorAttention reads window sizes from MindIE's own settings; sink_size and recent_size are not in the file"
    return Written({FILE: buffer.getvalue()}, (note,))


def read(path: Path, shape: Shape) -> HeadScores:
    """1 for heads of either list. Nothing is unpickled but plain containers. Raises BadInput for anything else."""
    held = plain(path)
    if not held or not held.keys() <= KEYS or not all(type(lists) is dict for lists in held.values()):
        raise BadInput(
            f"{path} is no head list of MindIE: {{'prefix_matching': {{layer: [heads]}}, 'copying': …}} is needed"
        )
    entries = [(layer, heads) for lists in held.values() for layer, heads in lists.items()]
    pattern = from_lists(path, entries, *shape.grid(path, "kv"))
    counts = {name: sum(map(len, lists.values())) for name, lists in held.items()}
    return pattern_scores(pattern, "imported/mindie", counts, pattern.shape[1])


def plain(path: Path) -> dict[Any, Any]:
    """The dict in a torch file. Raises BadInput for other types, pickled code and bombs; see `torch_files`."""
    try:
        held = plain_object(read_bytes(path))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(
            f"{path} is not a plain dict of numbers and lists, saved by torch: it is not loaded ({error})"
        ) from None
    if type(held) is not dict:
        raise BadInput(f"{path} holds a {type(held).__name__}, not a plain dict: it is not read")
    return held


EXPORTER = Exporter(
    name="mindie",
    help="head.pt of kv heads, RazorAttention: MindIE and msModelSlim (Huawei)",
    marker=FILE,
    also=("win.pt", "*.pt"),
    write=write,
    read=read,
    level="kv",
    use="ATB_LLM_RAZOR_ATTENTION_ENABLE=1 ATB_LLM_RAZOR_ATTENTION_ROPE=1; the file's place is set by MindIE's version",
)
