"""Pictures as inline SVG: the head map, curves with bands, weighted tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float

CIVIDIS = ((0, 34, 78), (66, 78, 108), (124, 123, 120), (187, 175, 113), (254, 232, 56))
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def colour(x: float) -> str:
    """Cividis at x in [0, 1]."""
    x = min(1.0, max(0.0, x)) * (len(CIVIDIS) - 1)
    i = min(int(x), len(CIVIDIS) - 2)
    mixed = [a + (b - a) * (x - i) for a, b in zip(CIVIDIS[i], CIVIDIS[i + 1], strict=True)]
    return "#" + "".join(f"{round(c):02x}" for c in mixed)


def head_map(
    values: Float[np.ndarray, "layers heads"], details: Mapping[tuple[int, int], str], kv_heads: int, caption: str
) -> str:
    """Layers × heads; hover or click tells a head's details. Heads without a score are outlined only."""
    layers, heads = values.shape
    size = max(10, min(34, 800 // heads))
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    parts = []
    for layer in range(layers):
        y = (layers - 1 - layer) * (size + 2)
        parts.append(f"<text x='30' y='{y + size * 0.7:.0f}' text-anchor='end'>{layer}</text>")
        for head in range(heads):
            x = 36 + head * (size + 1) + (head * kv_heads // heads) * 4
            v = values[layer, head]
            fill = "none' stroke='#888' stroke-dasharray='2" if np.isnan(v) else colour(v / top if top else 0)
            told = escape(f"L{layer}H{head}: " + ("not scored" if np.isnan(v) else f"{v:.3f}"), quote=True)
            parts.append(
                f"<rect class='cell' tabindex='0' role='button' data-key='{layer}-{head}' data-value='{v:.6g}' "
                f"x='{x}' y='{y}' width='{size}' height='{size}' fill='{fill}'><title>{told}</title></rect>"
            )
    height, width = layers * (size + 2) + 24, 40 + heads * (size + 1) + kv_heads * 4
    for head in range(0, heads, max(1, heads // 16)):
        x = 36 + head * (size + 1) + (head * kv_heads // heads) * 4 + size / 2
        parts.append(f"<text x='{x:.0f}' y='{height - 8}' text-anchor='middle'>{head}</text>")
    scale = "".join(f"<rect x='{i * 4}' width='4' height='10' fill='{colour(i / 29)}'/>" for i in range(30))
    legend = f"<svg width='124' height='10' aria-hidden='true'>{scale}</svg> {top:.2f}"
    data = json.dumps({f"{a}-{b}": text for (a, b), text in details.items()}).replace("<", "\\u003c")
    return (
        f"<figure class='heads'><svg viewBox='0 0 {width} {height}' width='{width}' role='group' "
        f"aria-label='{escape(caption, quote=True)}'>{''.join(parts)}</svg>"
        f"<output aria-live='polite'>Select a head to read its samples.</output>"
        f"<figcaption>{escape(caption)} Rows are layers, columns query heads, gaps part kv groups. 0 {legend}"
        f"</figcaption><script type='application/json'>{data}</script></figure>"
    )


def curves(
    x: Sequence[float], series: Mapping[str, Sequence[float]], bands: Mapping[str, Sequence[tuple[float, float]]],
    caption: str,
) -> str:  # fmt: skip
    """Values between 0 and 1 against x; a band is a (low, high) pair per point."""
    width, height, left, bottom = 640, 300, 40, 30
    span = (max(x) - min(x)) or 1

    def at(a: float, b: float) -> str:
        return f"{left + (a - min(x)) / span * (width - left - 150):.1f},{10 + (1 - b) * (height - bottom - 20):.1f}"

    parts = []
    for v in (0, 0.25, 0.5, 0.75, 1):
        px, py = at(min(x), v).split(",")
        parts.append(f"<path d='M{px},{py}H{width - 150}' stroke='#8884'/>")
        parts.append(f"<text x='{left - 6}' y='{py}' text-anchor='end'>{v:g}</text>")
    for a in x:
        px, _ = at(a, 0).split(",")
        parts.append(f"<text x='{px}' y='{height - 8}' text-anchor='middle'>{a:g}</text>")
    for i, (name, ys) in enumerate(series.items()):
        known = [(a, b) for a, b in zip(x, ys, strict=True) if not np.isnan(b)]
        if not known:
            continue
        stroke = SERIES[i % len(SERIES)]
        if name in bands:
            pairs = [(a, b) for a, b in zip(x, bands[name], strict=True) if not np.isnan(b[0])]
            area = [at(a, b[1]) for a, b in pairs] + [at(a, b[0]) for a, b in reversed(pairs)]
            parts.append(f"<polygon points='{' '.join(area)}' fill='{stroke}' opacity='.18'/>")
        line = " ".join(at(a, b) for a, b in known)
        parts.append(f"<polyline points='{line}' fill='none' stroke='{stroke}' stroke-width='2'/>")
        marks = "".join(
            "<circle cx='{}' cy='{}' r='3' fill='{}'/>".format(*at(a, b).split(","), stroke) for a, b in known
        )
        parts.append(marks + f"<path d='M{width - 140},{20 + i * 20}h16' stroke='{stroke}' stroke-width='3'/>")
        parts.append(f"<text x='{width - 118}' y='{24 + i * 20}'>{escape(name)}</text>")
    label = escape(caption, quote=True)
    return (
        f"<figure><svg viewBox='0 0 {width} {height}' width='{width}' role='img' aria-label='{label}'>"
        f"{''.join(parts)}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )


def tokens(
    words: Sequence[str], weights: Float[np.ndarray, " n"], marked: tuple[int, int], caption: str, around: int = 12
) -> str:
    """A context with its weights as shades; far from marked and heavy tokens it is cut short."""
    n = len(words)
    heavy = [int(i) for i in np.argsort(-weights)[:6] if weights[i] > 0.01]
    keep = set()
    for i in [*range(*marked), 0, n - 1, *heavy]:
        keep.update(range(max(0, i - around), min(n, i + around + 1)))
    out, last = [], -1
    for i in sorted(keep):
        if i > last + 1:
            out.append(f"<span class='gap'>… {i - last - 1} tokens … </span>")
        last = i
        cls = " class='span'" if marked[0] <= i < marked[1] else ""
        told = escape(f"{words[i]} at {i}: {weights[i]:.3f}", quote=True)
        shade = f"background:rgba(0,114,178,{min(0.85, float(weights[i])):.3f})"
        out.append(f"<span{cls} style='{shade}' title='{told}'>{escape(str(words[i]))}</span> ")
    return f"<figure><div class='tokens'>{''.join(out)}</div><figcaption>{escape(caption)}</figcaption></figure>"
