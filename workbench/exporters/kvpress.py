"""DuoAttention's pair with a short loader for kvpress, whose DuoAttentionPress otherwise fetches six known patterns.

kvpress 0.5.5 masks streaming heads in decoding only and saves no memory; its window ends where the prompt ends. It needs
transformers < 5.3, so it lives in an environment of its own.
"""

from __future__ import annotations

from workbench.exporters import Exporter, Written
from workbench.exporters.duo_attention import GATES, read
from workbench.exporters.duo_attention import write as write_pair
from workbench.exporters.split import Split

LOADER = "kvpress_loader.py"
CODE = '''"""DuoAttentionPress with the pattern of this folder: from kvpress_loader import press; `with press()(model): ...`.

Needs kvpress 0.5.5 and an attention implementation other than "eager".
"""

import json
from pathlib import Path

import numpy as np
from kvpress import DuoAttentionPress

FOLDER = Path(__file__).resolve().parent


class LocalDuoAttentionPress(DuoAttentionPress):
    @staticmethod
    def load_attention_pattern(model):
        config = json.loads((FOLDER / "config.json").read_text())
        pattern = np.loadtxt(FOLDER / "full_attention_heads.tsv", delimiter="\\t", ndmin=2)
        shape = (model.config.num_hidden_layers, model.config.num_key_value_heads)
        if pattern.shape != shape:
            raise ValueError(f"the pattern is {pattern.shape}, this model has {shape} layers and key-value heads")
        return config["sink_size"], config["recent_size"], pattern.clip(0, 1)


def press(ratio=None):
    """ratio: share of streaming heads; the pattern's own if it is cut, needed if it holds raw gates."""
    if ratio is None:
        ratio = json.loads((FOLDER / "config.json").read_text())["sparsity"]
    return LocalDuoAttentionPress(head_compression_ratio=ratio)
'''


def write(split: Split) -> Written:
    """The pair and the loader."""
    pair = write_pair(split)
    return Written({**pair.files, LOADER: CODE.encode()}, ("kvpress masks in decoding only: no memory is saved there",))


EXPORTER = Exporter(
    name="kvpress",
    help="the same pair and a loader: kvpress 0.5.5, DuoAttentionPress",
    marker=GATES,
    write=write,
    read=read,
    level="kv",
    gates=True,
    use='in Python, from FOLDER: "from kvpress_loader import press", then "with press()(model): ..."',
)
