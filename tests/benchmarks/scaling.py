"""The seconds that the cost model foretells against measured ones. Run: python tests/benchmarks/scaling.py [tiny|page]

Random Llamas over a grid of widths, depths and lengths read patterns of some rows ("rows") and received attention of all
keys ("received"). Five rates are fitted to the seconds of the shorter prompts, by least squares of relative errors, none
negative: FLOPs of matrices, of attention, of statistics; a layer's call; a forward. They then foretell what they have not
seen: the longest prompts, and whole blocks of needles of the widened bundled llama ("block"). `tiny` runs all of it at
sizes of a test and keeps nothing; `page` writes what is kept into docs/scale.md, as a whole run does at its end.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parent))
import measure
from cost_model import Geometry, Work, forward, needles, table

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
MARKS = "<!-- measured -->\n", "<!-- end of measured -->"
SHAPES = ((256, 2), (256, 8), (512, 2), (512, 6), (1024, 2), (1024, 4))
LENGTHS = (256, 512, 1024, 2048)
UNSEEN = 4096
BLOCKS = (256, 512, 1024, 2048)
DEPTHS = (0, 25, 50, 75, 100)
ROWS, VOCABULARY = 8, 97
TERMS = ("matrices", "attention", "statistics", "layer", "forward")
Point = Mapping[str, Any]
"""A geometry's fields, kind, tokens, fitted, seconds (min, median, max)."""


def geometry(width: int, layers: int) -> Geometry:
    """Heads of 32, four to a key-value head, MLPs of 11/4."""
    heads = width // 32
    return Geometry(layers, width, heads, heads // 4, 32, width * 11 // 4, VOCABULARY, tied=True)


def work_of(p: Point) -> Work:
    """What a measured piece of work counts."""
    g, kind = Geometry(**{f.name: p[f.name] for f in fields(Geometry)}), p["kind"]
    if kind == "block":
        return needles(g, p["tokens"], DEPTHS)
    return forward(g, p["tokens"], rows=ROWS if kind == "rows" else 0, whole=kind == "received")


def columns(p: Point) -> list[float]:
    """What each rate is of."""
    work = work_of(p)
    return [work.linear + work.logits, work.attention, work.statistics, work.calls, work.forwards]


def fit(points: Sequence[Point]) -> np.ndarray:
    """Seconds of one of each of TERMS, none negative: least squares of foretold / measured − 1."""
    relative = np.array([columns(p) for p in points]) / np.array([[p["seconds"]["median"]] for p in points])
    scale = relative.max(0)  # columns of FLOPs and of calls are 10 decades apart
    return nnls(relative / scale, np.ones(len(points)))[0] / scale


def judged(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Rows of rates, of errors by group, and of every point; only points that are `fitted` taught the rates."""
    rates = fit([p for p in points if p["fitted"]])
    told = [{**p, "foretold": float(np.dot(columns(p), rates))} for p in points]
    told = [{**p, "residual": p["foretold"] / p["seconds"]["median"] - 1} for p in told]
    groups = {"fitted": [p for p in told if p["fitted"]]}
    groups |= {
        f"unseen {k}": [p for p in told if not p["fitted"] and p["kind"] == k] for k in ("rows", "received", "block")
    }
    sizes = {name: np.abs([p["residual"] for p in of]) for name, of in groups.items() if of}
    return [
        *({"term": name, "seconds_of_one": float(x)} for name, x in zip(TERMS, rates, strict=True)),
        *({"group": n, "n": len(x), "error": measure.spread(x.tolist())} for n, x in sizes.items()),
        *told,
    ]


def grid(tiny: bool) -> Iterator[tuple[Geometry, list[int]]]:
    """Shapes with their lengths; the last length is not fitted."""
    lengths = [64, 128, 256] if tiny else [*LENGTHS, UNSEEN]
    for width, layers in ((128, 1), (128, 2), (256, 2)) if tiny else SHAPES:
        yield geometry(width, layers), lengths


def config_of(g: Geometry, longest: int) -> Any:
    """Of a Llama with this geometry."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        "llama", vocab_size=g.vocabulary, hidden_size=g.width, intermediate_size=g.inner, num_hidden_layers=g.layers,
        num_attention_heads=g.heads, num_key_value_heads=g.kv_heads, head_dim=g.head_dim, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, tie_word_embeddings=g.tied, max_position_embeddings=longest,
    )  # fmt: skip


def model_of(g: Geometry, longest: int) -> Any:
    """A random Llama of a geometry."""
    import tiny_models

    import workbench as wb

    with tempfile.TemporaryDirectory() as folder:
        tiny_models.save("llama", Path(folder), of=config_of(g, longest))
        return wb.load(folder)


def forwards(g: Geometry, lengths: Sequence[int]) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Kind, tokens and the work."""
    import torch

    import workbench as wb

    model = model_of(g, max(lengths))
    for n in lengths:
        tokens = torch.randint(3, g.vocabulary, (1, n))
        rows = wb.probes.top_keys(5, rows=tuple(range(n - ROWS, n)))
        for kind, probe in (("rows", rows), ("received", wb.probes.received())):
            yield kind, n, lambda tokens=tokens, probe=probe: wb.observe(model, tokens, [probe])


def block_works(tiny: bool) -> Iterator[tuple[Geometry, int, Callable[[], Any]]]:
    """Blocks of five needles that the widened llama answers at once."""
    import builds

    import workbench as wb
    from workbench.probes.retrieval import score_block
    from workbench.tasks.needle import Assembler, answer_ends, blocks

    with tempfile.TemporaryDirectory() as folder:
        model = wb.load("llama" if tiny else str(builds.wide_llama(Path(folder))))
    c = model.bridge.cfg
    g = Geometry(
        model.n_layers, c.d_model, model.n_heads, model.n_kv_heads, c.d_head, c.d_mlp, model.tokenizer.vocab_size, True
    )
    stops = answer_ends(model.tokenizer, model.stop_tokens)
    for n in (128, 256) if tiny else BLOCKS:
        unit = next(iter(blocks(Assembler(model.tokenizer), [n], DEPTHS, 1, seed=3)))
        yield g, n, lambda unit=unit: score_block(model, unit, stops)


def points(tiny: bool) -> Iterator[Point]:
    """All of them, as they are measured: five runs each after one that is not counted."""

    def point(g: Geometry, kind: str, n: int, fitted: bool, work: Callable[[], Any]) -> Point:
        seconds = measure.spread(measure.in_turn([work])[0])
        return {"kind": kind, "tokens": n, **asdict(g), "fitted": fitted, "seconds": seconds}

    for g, lengths in grid(tiny):
        for kind, n, work in forwards(g, lengths):
            yield point(g, kind, n, n < max(lengths), work)
    for g, n, work in block_works(tiny):
        yield point(g, "block", n, False, work)


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rates, errors by group, and every point, in Markdown."""
    rates = [
        [r["term"], f"{1e-9 / x:,.1f} GFLOP/s" if 0 < (x := r["seconds_of_one"]) < 1e-7 else f"{x * 1e6:,.0f} µs"]
        for r in rows if "term" in r
    ]  # fmt: skip
    groups = [
        [r["group"], str(r["n"]), *(f"{r['error'][x]:.0%}" for x in ("median", "max"))] for r in rows if "group" in r
    ]
    every = [
        [p["kind"], *(f"{p[n]:,}" for n in ("width", "layers", "tokens")), f"{p['seconds']['median']:.3f}",
         f"{p['foretold']:.3f}", f"{p['residual']:+.0%}", "yes" if p["fitted"] else "no"]
        for p in rows if "kind" in p
    ]  # fmt: skip
    heads = (
        ("one of", "rate"), ("points", "n", "median error", "largest error"),
        ("work", "width", "layers", "tokens", "measured (s)", "foretold (s)", "residual", "fitted"),
    )  # fmt: skip
    return "\n\n".join(table(head, lines) for head, lines in zip(heads, (rates, groups, every), strict=True))


def write() -> Path:
    """What is kept, into its place in docs/scale.md."""
    kept = json.loads((measure.RESULTS / "scaling.json").read_text())
    m = kept["machine"]
    where = f"Measured {kept['date'][:10]} on {m['cpu']}, {m['threads']} threads, float32, torch {kept['versions']['torch']}."
    new = f"{MARKS[0]}{where}\n\n{tables(kept['figures'])}\n{MARKS[1]}"
    text = PAGE.read_text()
    PAGE.write_text(re.sub(f"{MARKS[0]}.*?{MARKS[1]}", lambda _: new, text, flags=re.DOTALL))
    return PAGE


def main(words: list[str]) -> None:
    """Measure and keep, or show."""
    if words != ["page"]:
        before, found = measure.load(), []
        for p in points(words == ["tiny"]):
            found.append(p)
            print(p["width"], p["layers"], p["kind"], p["tokens"], p["seconds"]["median"], flush=True)
        figures = judged(found)
        print(tables(figures))
        if words == ["tiny"]:
            return
        print(measure.keep("scaling", figures, before))
    print(write())


if __name__ == "__main__":
    main(sys.argv[1:])
