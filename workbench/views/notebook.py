"""Small pictures for notebook outputs: no address, no id that two outputs could share, colours of the host's theme."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.views.attention_patterns import props
from workbench.views.graph_drawing import Drawing
from workbench.views.head_grid import HeadGrid
from workbench.views.libraries import CIRCUITSVIS, library
from workbench.views.text import NOT_SCORED, esc, interval, number, script_json

if TYPE_CHECKING:
    from workbench.views.circuit_graph import CircuitGraph

_ENTRY = 'style="display:inline-block;margin-right:14px"'
TITLED = 256
"""Up to this many heads each cell is drawn; above, the map is one bitmap."""
_INK = "<style>text{font:11px system-ui,sans-serif;fill:#808080}image{image-rendering:pixelated}</style>"
"""Grey labels: a picture in an <img> does not know the host's theme, and grey reads on light and dark."""

_RULES = {
    "": "display:flex;flex-wrap:wrap;align-items:flex-start;gap:12px 28px;font:13px system-ui,sans-serif;"
    "color:var(--jp-content-font-color1,var(--vscode-editor-foreground,CanvasText))",
    " p": "margin:0 0 4px;font-weight:600;width:100%",
    " small": "opacity:.8;width:100%",
    " table": "border-collapse:collapse;font-variant-numeric:tabular-nums",
    " :is(td,th)": "padding:1px 8px;text-align:right",
    " .m": "flex:0 1 460px",
    " img": "width:100%;height:auto",
}


def mini_html(
    scores: Float[np.ndarray, "layers heads"],
    title: str,
    *,
    low: Float[np.ndarray, "layers heads"] | None = None,
    high: Float[np.ndarray, "layers heads"] | None = None,
    kv_heads: int | None = None,
    caption: str = "",
) -> str:
    """A head map and its ten highest heads, at most 30 kB; NaN heads are hatched and never ranked."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or not scores.size:
        raise BadInput(f"scores are {scores.shape}, expected [layers, heads]")
    known = scores[np.isfinite(scores)]
    ends = (min(0.0, float(known.min())), float(known.max())) if known.size else (0.0, 1.0)
    grid = HeadGrid(scores, ends if ends[1] > ends[0] else (ends[0], ends[0] + 1.0), kv_heads, width=420, height=280)
    ranked = [np.unravel_index(i, scores.shape) for i in np.argsort(-scores, axis=None, kind="stable")]
    best = [(int(i), int(j)) for i, j in ranked if not np.isnan(scores[i, j])][:10]
    rows = "".join(
        f"<tr><td>{place + 1}</td><td>L{i}H{j}</td><td>{_score(i, j, scores, low, high)}</td></tr>"
        for place, (i, j) in enumerate(best)
    )
    label = (
        f"{title}: highest L{best[0][0]}H{best[0][1]}, {number(scores[best[0]].item())}"
        if best
        else f"{title}: {NOT_SCORED}"
    )
    drawing = _picture(grid.svg(label, grid.cells(rects=TITLED) + grid.outlines() + grid.axes()), label)
    missing = int(np.isnan(scores).sum())
    scale = f"Colours: cividis, linear from {number(grid.limits[0])} to {number(grid.limits[1])}."
    note = " ".join(
        filter(
            None, (caption, scale, f"Not scored (hatched): {missing:,} of {scores.size:,} heads." if missing else "")
        )
    )
    body = (
        f"<p>{esc(title)}</p><div class='m'>{drawing}</div>"
        f"<table><thead><tr><th>rank</th><th>head</th><th>score</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<small>{esc(note)}</small>"
    )
    # A name made of the content: two outputs share it only if they are the same, and a rerun leaves the file alone.
    name = "wb" + hashlib.sha256(body.encode("utf-8")).hexdigest()[:12]
    style = "".join(f"#{name}{where}{{{rules}}}" for where, rules in _RULES.items())
    return f'<div id="{name}"><style>{style}</style>{body}</div>'


def graph_html(graph: CircuitGraph) -> str:
    """A circuit graph as a picture with its legend; evidence that needs a pointer is left to the page."""
    drawing = Drawing(graph.graph)
    note = " ".join(filter(None, (graph.caption, graph.graph.left_out and f"Not drawn: {graph.graph.left_out}.")))
    return (
        f'<div style="font:13px system-ui,sans-serif"><p style="font-weight:600">{esc(graph.title)}</p>'
        f'<div style="overflow-x:auto">{_picture(drawing.svg(graph.sentence()), graph.sentence(), drawing.size[0])}</div>'
        f"{graph.legend(_ENTRY)}<small>{esc(note)}</small></div>"
    )


def attention_circuitsvis(
    tokens: Sequence[str],
    attention: Float[np.ndarray, "heads queries keys"],
    head_names: Sequence[str] | None = None,
) -> str:
    """CircuitsVis attention patterns for a notebook output (0.5 MB of library, and the data), drawn without a network.

    Differs from CircuitsVis's own output: `<` in tokens is escaped (they would otherwise run as script), the element
    is closed, weights have three decimals, and the bundle is packed and shared by all outputs of a notebook.
    Raises `TooLarge` above 128 tokens or 32 heads.
    """
    given = script_json(props(tokens, attention, head_names))
    name = f"workbench-{uuid.uuid4().hex}"
    source = json.dumps(library(CIRCUITSVIS).body)
    return (
        f'<div id="{name}" style="background:#fff;color:#000;color-scheme:light;overflow-x:auto;padding:8px"></div>'
        "<script>(async()=>{window.workbenchCircuitsVis??=(async()=>{"
        f"const b=Uint8Array.from(atob({source}),c=>c.charCodeAt(0));"
        "const s=document.createElement('script');s.textContent=await new Response(new Blob([b]).stream()"
        ".pipeThrough(new DecompressionStream('gzip'))).text();document.head.append(s)})();"
        f"await window.workbenchCircuitsVis;CircuitsVis.render('{name}',CircuitsVis.AttentionPatterns,{given})"
        "})()</script>"
    )


def _picture(svg: str, label: str, width: int = 460) -> str:
    """An `<svg>` as an `<img>`: hosts that do not trust a saved notebook strip the one and keep the other."""
    start, inside = svg.split(">", 1)
    whole = f'{start} xmlns="http://www.w3.org/2000/svg">{_INK}{inside}'
    body = base64.b64encode(whole.encode()).decode()
    return f'<img width="{width}" alt="{esc(label)}" src="data:image/svg+xml;base64,{body}">'


def _score(i: int, j: int, scores: np.ndarray, low: np.ndarray | None, high: np.ndarray | None) -> str:
    if low is None or high is None:
        return number(scores[i, j].item())
    return interval(scores[i, j].item(), float(low[i, j]), float(high[i, j]))
