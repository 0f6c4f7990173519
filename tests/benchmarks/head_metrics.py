"""HeadVis' six corpus metrics without patterns against whole ones. Run: python tests/benchmarks/head_metrics.py

A random Llama (width 512, 8 layers of 16 heads), one text at several lengths. First the figures are compared, then the
ways are timed in turn; growth of the peak memory is taken in processes of their own at the greatest length. `six
metrics` asks for what HeadVis shows; `atlas pass` is what `workbench atlas` makes of a corpus text: both versions, raw and
without sinks, with distance profiles, duplicate tokens, received attention, sinks and the words that are read.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from builds import random_llama
from peers.headvis_eager import PEERS, Metrics
from torch import Tensor
from transformers import AutoModelForCausalLM
from workbench_analyses.atlas_parts.measures import CORPUS
from workbench_analyses.atlas_parts.patterns import FAINT, RAW, Batch, joined, read_patterns, version
from workbench_kernels import Matches, Reductions, Statistics
from workbench_kernels.timing import LEAST, against, in_turn

import workbench as wb
from workbench.probes import Probe, token_labels

LENGTHS = (512, 1024, 2048)
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
"""Of a metric in its own unit; the variance is a difference of large numbers and gets a thousand times the first."""
WAYS = ("six metrics", "atlas pass")


def six(model: wb.Model, tokens: Tensor) -> Metrics:
    """What these metrics need and nothing else."""
    batch, (queries, keys) = Batch(tokens), token_labels(tokens)
    matches = Matches(queries, keys[:, 1:], (FAINT,))
    want = Reductions(offsets=(0, 1), entropy=True, moments=True, matches=matches)

    def read(s: Statistics, mask: Any) -> dict[str, Tensor]:
        return {
            "self": s.at_offset[..., 0].sum(-1), "previous": s.at_offset[..., 1].sum(-1), "entropy": s.entropy.sum(-1),
            "distance": s.moments[..., 0].sum(-1), "distance2": s.moments[..., 1].sum(-1),
            "strong_induction": (s.matched[..., 0] * batch.again[:, None]).sum(-1),
        }  # fmt: skip

    found = wb.observe(model, tokens, [Probe("six", asks=lambda mask: want, reads=read, gathers=dict)])["six"]
    sums = {name: x.sum(1).double() for name, x in found.items()}
    rows = {"rows": batch.rows, "previous_rows": batch.seconds, "copies": batch.again}
    return _named(sums | {name: x.sum().expand_as(sums["self"]) for name, x in rows.items()})


def whole(model: wb.Model, tokens: Tensor) -> Metrics:
    """The atlas' pass, of which HeadVis' metrics are a part."""
    words, places = torch.unique(tokens, return_inverse=True)
    sums = version(joined([read_patterns(model, Batch(tokens, words=places, n_words=len(words)))]), RAW)
    return _named({name: torch.from_numpy(x.sum(0)) for name, x in sums.items()})


def _named(sums: dict[str, Tensor]) -> Metrics:
    arrays = {name: x.double().numpy() for name, x in sums.items()}
    return {m.name: torch.from_numpy(m.of(arrays)) for m in CORPUS if m.headvis and m.of}


OURS = dict(zip(WAYS, (six, whole), strict=True))


def check(theirs: Metrics, ours: Metrics) -> None:
    """Raises AssertionError where a metric differs by more than CLOSE."""
    assert set(theirs) == set(ours) and len(ours) == 6
    for name, values in theirs.items():
        atol = CLOSE["atol"] * (1000 if "variance" in name else 1)
        np.testing.assert_allclose(ours[name], values, atol=atol, rtol=CLOSE["rtol"], err_msg=name)


def built(folder: Path) -> tuple[wb.Model, dict[str, Any]]:
    """The model, and what each peer runs."""
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    model = wb.load(folder)
    return model, dict(zip(PEERS, (plain, model.bridge), strict=True))


def texts(n: int) -> Tensor:
    """Random tokens, a few of many, so that they come again."""
    return torch.randint(3, 200, (1, n), generator=torch.Generator().manual_seed(n))


def table(model: wb.Model, theirs: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """Seconds of all ways at one length, timed in turn, and what one is in another."""
    tokens = texts(n)
    works = {name: lambda f=peer, m=theirs[name]: f(m, tokens) for name, peer in PEERS.items()}
    works |= {name: lambda f=ours: f(model, tokens) for name, ours in OURS.items()}
    for peer in PEERS:
        for name in WAYS:
            check(works[peer](), works[name]())
    times = dict(zip(works, in_turn(list(works.values()), LEAST), strict=True))
    return [
        {"tokens": n, "work": name, "peer": peer, **against(times[peer], times[name])}
        for peer in PEERS
        for name in WAYS
    ]


def memory(folder: Path, n: int) -> list[dict[str, Any]]:
    """Growth of the peak resident size in MiB, each way in a process of its own."""
    out = []
    for way in (*PEERS, *WAYS):
        done = subprocess.run(
            [sys.executable, __file__, "memory", str(folder), way, str(n)], capture_output=True, text=True, check=True
        )
        out.append({"tokens": n, "work": "memory", "who": way, "mib": round(float(done.stdout), 1)})
    return out


def one_memory(folder: Path, way: str, n: int) -> None:
    """Print the growth in MiB of one way."""
    model, theirs = built(folder)
    run = (lambda x: PEERS[way](theirs[way], x)) if way in PEERS else (lambda x: OURS[way](model, x))
    run(texts(64))  # what a first call alone needs is not counted
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kib()
    run(texts(n))
    print((_peak_kib() - before) / 1024)


def _peak_kib() -> int:
    """The peak resident size since it was last reset (Linux)."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def main() -> None:
    """Figures, kept as they come."""
    before = measure.load()
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = random_llama(Path(name))
        model, theirs = built(folder)
        for n in LENGTHS:
            figures += table(model, theirs, n)
            measure.keep("head_metrics", figures, before)
            print(*({k: f[k] for k in ("tokens", "work", "peer", "ratio")} for f in figures[-4:]), sep="\n", flush=True)
        figures += memory(folder, LENGTHS[-1])
        print(*figures[-4:], measure.keep("head_metrics", figures, before), sep="\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        one_memory(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()
