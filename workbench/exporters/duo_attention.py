"""DuoAttention patterns: which key-value heads keep the whole cache.

`full_attention_heads.tsv`: layers × key-value heads, 1 = full attention, 0 = streaming (sink + recent window);
`config.json`: sink_size, recent_size. Loaders cut gates at a quantile with random ties, so a 0/1 file with `sparsity`
beside it is what all of them read alike (arXiv 2410.10819; github mit-han-lab/duo-attention).
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.cutting import WINDOW
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.jsonable import dumps
from workbench.score_checks import check_size
from workbench.scores_io import read_json
from workbench.untrusted import read_text

GATES, CONFIG = "full_attention_heads.tsv", "config.json"
METHOD = "imported/duo-attention"


def write(split: Split) -> Written:
    """The pattern, cut or as raw gates, and its config."""
    how, cut = split.how, split.cut
    own = config_text(how.sink_size, how.recent_size, **({} if cut is None else {"sparsity": cut.sparsity}))
    return Written({GATES: table(split.values), CONFIG: own.encode()})


def config_text(sink_size: int, recent_size: int, **more: Any) -> str:
    """The text of config.json."""
    return dumps({"sink_size": sink_size, "recent_size": recent_size, **more}, indent=1) + "\n"


def read(path: Path, shape: Shape) -> HeadScores:
    """Gates of a pattern folder, from its TSV; raw values are kept, ranks use them clipped to 0…1 as loaders do."""
    gates = read_table(path)
    config = path.with_name(CONFIG)
    if not config.is_file():
        raise BadInput(f"{config} is missing: a pattern needs sink_size and recent_size from it")
    facts = read_json(config)
    parameters = {name: facts.get(name) for name in WINDOW}
    for name, size in parameters.items():
        if type(size) is not int or size < 0:
            raise BadInput(f"{config} has no whole number for {name}")
    if type(facts.get("threshold")) in (int, float):
        parameters["threshold"] = facts["threshold"]
    return HeadScores(gates, METHOD, parameters, kv_heads=gates.shape[1], clip=(0.0, 1.0))


def read_table(path: Path) -> Float[np.ndarray, "layers kv"]:
    """A tab-separated table of numbers. Raises BadInput, with the line, for a ragged row or what is no finite number."""
    rows: list[list[float]] = []
    for line, text in enumerate(read_text(path, "a table of gates").splitlines(), 1):
        cells = text.split("\t")
        if rows and len(cells) != len(rows[0]):
            raise BadInput(f"{path}:{line}: {len(cells)} columns, where line 1 has {len(rows[0])}: no table of gates")
        try:
            row = [float(cell) for cell in cells]
        except ValueError:
            raise BadInput(f"{path}:{line}: not tab-separated numbers, so no table of gates") from None
        if not all(map(math.isfinite, row)):
            raise BadInput(f"{path}:{line}: holds NaN or infinity, which is no gate")
        rows.append(row)
    if not rows:
        raise BadInput(f"{path} is no table of gates: it is empty")
    check_size(path, len(rows), len(rows[0]))
    return np.array(rows)


def table(pattern: Float[np.ndarray, "layers kv"], number: str = "%.18e") -> bytes:
    """The TSV as numpy writes it by default, which is how the published files were written."""
    buffer = io.BytesIO()
    np.savetxt(buffer, pattern, fmt=number, delimiter="\t")
    return buffer.getvalue()


EXPORTER = Exporter(
    name="duo-attention",
    help="full and streaming kv heads: DuoAttention (github mit-han-lab/duo-attention), RLKV",
    marker=GATES,
    write=write,
    read=read,
    level="kv",
    gates=True,
    use="run DuoAttention with --attn_load_dir FOLDER --sparsity {sparsity} --sink_size {sink_size} "
    "--recent_size {recent_size}",
)
