"""MindIE OmniAttention: a table of 0 and 1 in which 1 marks a STREAMING head, the opposite of DuoAttention's file.

A mix-up turns the model's memory inside out, so the polarity stands in the file's name, and a table of another name is
read only with format=omni-attention.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.duo_attention import read_table, table
from workbench.exporters.patterns import pattern_scores
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores

FILE = "omni_attention.1_is_streaming.tsv"
SIZES = {"sink_size": 128, "recent_size": 256}


def write(split: Split) -> Written:
    """1 - full, as whole numbers. Raises BadInput for window sizes that the server does not have."""
    for name, size in SIZES.items():
        if getattr(split.how, name) != size:
            raise BadInput(f"{name}={getattr(split.how, name)}: OmniAttention's is fixed at {size}; say {name}={size}")
    return Written({FILE: table(1.0 - split.full, "%d")}, ("1 marks a streaming head in this file",))


def read(path: Path, shape: Shape) -> HeadScores:
    """1 for full heads: the file's numbers turned round. Raises BadInput for other numbers than 0 and 1."""
    streaming = read_table(path)
    if not np.isin(streaming, (0, 1)).all():
        raise BadInput(f"{path} is no table of 0 and 1 (1 = streaming)")
    return pattern_scores(1 - streaming, "imported/omni-attention", SIZES, streaming.shape[1])


EXPORTER = Exporter(
    name="omni-attention",
    help="0/1 table of kv heads, 1 = streaming: MindIE OmniAttention (Huawei)",
    marker=FILE,
    write=write,
    read=read,
    level="kv",
    use="ATB_LLM_OMNI_ATTENTION_ENABLE=1 ATB_LLM_OMNI_SHIFT_WINDOWS_ENABLE=1 "
    f"ATB_LLM_OMNI_ATTENTION_PATTERN_FILE=FOLDER/{FILE}",
)
