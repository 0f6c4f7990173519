"""HeadVis' tree of static files: `config.json`, `scatter_data.json` and `heads/L{layer}H{head}.json`.

After the docstrings of its data pipeline (github anthropics/headvis) and Neuronpedia's implementation of it (github
hijohnnylin/neuronpedia, head metrics), whose metric names and loader keys are used; the older name
`previous_token_score` is read, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.headvis_sequences import head_payload
from workbench.exporters.provenance import Shape
from workbench.head_metrics import HeadMetrics, Metric, read_metrics
from workbench.heads import HeadScores
from workbench.jsonable import dumps
from workbench.score_checks import MOST_HEADS, check_size
from workbench.untrusted import LARGEST, read_json

SCATTER, CONFIG, HEAD = "scatter_data.json", "config.json", "heads/L{layer}H{head}.json"
INTERVALS = 5
DIGITS = 6
ALIASES = {"previous_token_score": "prev_token_score"}
FIRST = "induction_score"
"""The metric that is read where one is wanted."""


def write(scores: HeadScores, *, run: str = "", np_model_id: str = "") -> Written:
    """The tree. run: the folder of `workbench atlas`, for all its metrics and its texts; without one the scores alone
    are written. np_model_id: Neuronpedia's name of the model, which its loader takes from the folders where it is missing.
    """
    held = read_metrics(run) if run else _alone(scores)
    notes = () if held.texts else ("no texts: the pages of heads have numbers only; export the run of an atlas",)
    return Written(_Tree(held, np_model_id), notes)


def read(path: Path, shape: Shape) -> HeadScores:
    """One metric: induction_score where there is one, else the first; `read_headvis` gives all of them."""
    held = read_headvis(path)
    chosen = next((m for m in held.metrics if m.headvis == FIRST), held.metrics[0])
    return HeadScores(chosen.values, f"imported/headvis/{chosen.name}", dict(held.about), kv_heads=shape.kv_heads)


def read_headvis(path: str | Path) -> HeadMetrics:
    """All metrics of a tree, without its texts, which differ from head to head. path: the folder or scatter_data.json.

    Raises BadInput, with the file, for what is none.
    """
    file = Path(path) / SCATTER if Path(path).is_dir() else Path(path)
    rows = read_json(file, "HeadVis' scatter data", LARGEST)
    if not _claims(rows):
        raise BadInput(f'{file} is no scatter data of HeadVis: a list of {{"layer", "head", metric: number}} is needed')
    config = file.with_name(CONFIG)
    about = read_json(config, "HeadVis' config", LARGEST) if config.is_file() else {}
    if not isinstance(about, dict):
        raise BadInput(f"{config} is no config of HeadVis: it holds no object")
    layers, heads = (1 + max(row[name] for row in rows) for name in ("layer", "head"))
    names = list(dict.fromkeys(k for row in rows for k in row if k not in ("layer", "head")))
    check_size(file, layers, heads, len(names))
    values = {name: np.full((layers, heads), np.nan) for name in names}
    for row in rows:
        for name in names:
            if (x := row.get(name)) is not None:
                values[name][row["layer"], row["head"]] = x
    said = about.get("metric_descriptions")
    said = said if isinstance(said, dict) else {}
    metrics = [Metric(n, n, str(said.get(n, "")), values[n], ALIASES.get(n, n)) for n in names]
    known = {k: about[k] for k in ("model_name", "dataset_name") if isinstance(about.get(k), str)}
    return HeadMetrics(str(about.get("model_name", file.parent.name)), tuple(metrics), about=known)


class _Tree(Mapping[str, bytes]):
    """The files by name, each made when it is asked for: a large model has thousands."""

    def __init__(self, held: HeadMetrics, np_model_id: str) -> None:
        self.held, self.np_model_id, (layers, heads) = held, np_model_id, held.shape
        self.heads = {HEAD.format(layer=i, head=j): (i, j) for i in range(layers) for j in range(heads)}
        self.small = {
            CONFIG: self._config(), SCATTER: self._scatter(), "server_config.json": {}, "attributions/manifest.json": {},
        }  # fmt: skip

    def __getitem__(self, name: str) -> bytes:
        value = self.small[name] if name in self.small else head_payload(self.held.texts, *self.heads[name])
        return (dumps(value) + "\n").encode()

    def __iter__(self) -> Iterator[str]:
        return iter((*self.small, *self.heads))

    def __len__(self) -> int:
        return len(self.small) + len(self.heads)

    def _scatter(self) -> list[dict[str, Any]]:
        return [
            {"layer": i, "head": j, **{_name(m): _rounded(float(m.values[i, j])) for m in self.held.metrics}}
            for i, j in self.heads.values()
        ]

    def _config(self) -> dict[str, Any]:
        held, (layers, heads) = self.held, self.held.shape
        about = {"dataset_name": "", "n_sequences": 0, "seq_len": 0, "dtype": "", **held.about}
        own = {"np_model_id": self.np_model_id} if self.np_model_id else {}
        return {
            "model_name": held.model, **own, "dataset_name": str(about["dataset_name"]),
            "heads": [list(head) for head in self.heads.values()], "n_layers": layers, "n_heads": heads,
            "n_intervals": max(1, min(INTERVALS, len(held.texts))),
            "metrics": [_name(m) for m in held.metrics],
            "metric_descriptions": {_name(m): f"{m.title}: {m.help}" for m in held.metrics},
            "head_data_pattern": "L{layer}H{head}.json", "has_umap": False, "umap_heads": [],
            "custom_plots": [{"key": "qk_distance_histogram", "label": "Q-K distance"},
                             {"key": "histogram", "label": "Activation distribution"}],
            "custom_tables": [{"key": "top_query_tokens", "label": "Top query tokens"},
                              {"key": "top_key_tokens", "label": "Top key tokens"}],
            "statistics_display": {"n_samples": {"label": "Samples kept", "format": "default"},
                                   "mean_max_activation": {"label": "Mean max activation", "format": "default"}},
            "pipeline_config": {**about, "model_name": held.model, "attn_implementation": "workbench",
                                "num_hidden_layers": layers, "num_attention_heads": heads},
        }  # fmt: skip


def _name(metric: Metric) -> str:
    """HeadVis' name of the metric, or ours without the marks that its addresses do not take."""
    return metric.headvis or metric.name.replace("/", "_").replace(" ", "_")


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _alone(scores: HeadScores) -> HeadMetrics:
    name = scores.method.rpartition("/")[2]
    model = scores.model.name if scores.model else "unverified"
    return HeadMetrics(model, (Metric(name, name, scores.method, scores.values),), kv_heads=scores.kv_heads)


def _claims(value: Any) -> bool:
    """A list of rows with whole numbers for layer and head, and numbers or null for the rest."""
    return isinstance(value, list) and bool(value) and all(isinstance(r, dict) and _is_row(r) for r in value)


def _is_row(row: dict[str, Any]) -> bool:
    places = all(type(row.get(name)) is int and 0 <= row[name] < MOST_HEADS for name in ("layer", "head"))
    rest = [x for name, x in row.items() if name not in ("layer", "head")]
    return places and bool(rest) and all(x is None or (type(x) in (int, float) and math.isfinite(x)) for x in rest)


EXPORTER = Exporter(
    name="headvis",
    help="metrics and sequences of all heads: HeadVis (github anthropics/headvis), Neuronpedia",
    marker=SCATTER,
    write=write,
    read=read,
    claims=_claims,
    use="serve FOLDER as data/ beside HeadVis' dist/",
    side_car=SCATTER,
)
