"""Several scores of every head of a model, with the texts they were measured on: what atlases keep and exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from workbench.errors import BadInput
from workbench.run_record import check_folder
from workbench.schema import schema_of, stamp
from workbench.untrusted import LARGEST, read_json

FORMAT = "workbench-head-metrics"
FILE, TENSORS = "metrics.json", "texts.safetensors"


@dataclass(frozen=True, eq=False)
class Metric:
    """A score of every head; NaN: never scored. headvis: the name of the very same metric in HeadVis' files."""

    name: str
    title: str
    help: str
    values: Float[np.ndarray, "layers heads"]
    headvis: str | None = None


@dataclass(frozen=True, eq=False)
class Text:
    """A text and the largest weights of each row in every head, largest first; key 0 with weight 0 fills the rest."""

    words: tuple[str, ...]
    keys: Int[np.ndarray, "layers heads n k"]
    weights: Float[np.ndarray, "layers heads n k"]


@dataclass(frozen=True, eq=False)
class HeadMetrics:
    """metrics: at least one, of one shape. about: where the numbers are from (dataset_name, n_sequences, …)."""

    model: str
    metrics: tuple[Metric, ...]
    texts: tuple[Text, ...] = ()
    kv_heads: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse metrics of different shapes, and texts of another model or with keys that they do not have."""
        if len({m.values.shape for m in self.metrics}) != 1 or self.metrics[0].values.ndim != 2:
            raise BadInput(f"{self.model}: metrics of {len(self.metrics)} names need one shape [layers, heads]")
        for i, text in enumerate(self.texts):
            keys, n = text.keys, len(text.words)
            if keys.shape[:-1] != (*self.shape, n) or text.weights.shape != keys.shape or not keys.size:
                raise BadInput(
                    f"{self.model}: text {i} has weights {text.weights.shape} and keys {keys.shape} for {n} words"
                )
            if keys.dtype.kind not in "iu" or keys.min() < 0 or keys.max() >= n:
                raise BadInput(f"{self.model}: text {i} has keys beyond its {n} words")

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads."""
        return self.metrics[0].values.shape  # pyright: ignore[reportReturnType]

    def to_json(self) -> dict[str, Any]:
        """All but the weights of the texts, which `arrays` holds."""
        metrics = [
            {"name": m.name, "title": m.title, "help": m.help, "headvis": m.headvis, "values": m.values}
            for m in self.metrics
        ]  # fmt: skip
        return {
            "format": FORMAT, **stamp(), "model": self.model, "kv_heads": self.kv_heads,
            "about": dict(self.about), "metrics": metrics, "texts": [list(t.words) for t in self.texts],
        }  # fmt: skip

    def arrays(self) -> dict[str, np.ndarray]:
        """Keys and weights of the texts by name, for a safetensors file."""
        out = {}
        for i, text in enumerate(self.texts):
            out |= {f"keys.{i}": text.keys.astype(np.int32), f"weights.{i}": text.weights.astype(np.float16)}
        return out


def read_metrics(folder: str | Path) -> HeadMetrics:
    """From a run folder of `workbench atlas`. Raises BadInput, with the file, for what is none."""
    import safetensors.numpy
    from safetensors import SafetensorError

    file, tensors = Path(folder) / FILE, Path(folder) / TENSORS
    if not file.is_file():
        raise BadInput(f"{file} is missing: give the run folder of workbench atlas")
    check_folder(folder)
    held = read_json(file, "metrics of heads", LARGEST)
    try:
        if held["format"] != FORMAT:
            raise BadInput(f"{file} is in format {held['format']}, this reads {FORMAT}")
        schema_of(held, file, unsaid=held.get("version"))
        found = safetensors.numpy.load_file(tensors) if held["texts"] else {}
        texts = [
            Text(tuple(map(str, words)), found[f"keys.{i}"], found[f"weights.{i}"].astype(np.float32))
            for i, words in enumerate(held["texts"])
        ]  # fmt: skip
        metrics = [Metric(**{**m, "values": np.array(m["values"], dtype=np.float64)}) for m in held["metrics"]]
        kv_heads = None if held["kv_heads"] is None else int(held["kv_heads"])
        return HeadMetrics(str(held["model"]), tuple(metrics), tuple(texts), kv_heads, dict(held["about"]))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{tensors} cannot be read: {' '.join(str(error).split())}") from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{file} is damaged: {' '.join(str(error).split())}") from None
