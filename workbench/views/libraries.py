"""The script libraries that a page may carry, packed; each is embedded once however many blocks use it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from workbench.errors import BadInput, RunError
from workbench.views.text import esc, packed

PLOTLY = "plotly"
CIRCUITSVIS = "circuitsvis"
PLOTLY_VERSION = "4.1.1"
PLOTLY_FILE = f"plotly-cartesian-{PLOTLY_VERSION}.min.js.gz"
PLOTLY_SHA256 = "8a7a75d40bde9906edca840974753676a1acef767338b45ace6606e6089f7469"


@dataclass(frozen=True)
class Library:
    """A library as the page carries it. `body` is gzip in base64; `licence` is shown in the page's footer."""

    name: str
    version: str
    body: str
    licence: str


def plotly_bytes() -> bytes:
    """The vendored cartesian bundle of plotly.js (npm `plotly.js-cartesian-dist-min`), gzipped.

    Raises `RunError` where the file is not the one whose checksum is recorded here.
    """
    body = resources.files("workbench.views").joinpath("vendor", PLOTLY_FILE).read_bytes()
    if hashlib.sha256(body).hexdigest() != PLOTLY_SHA256:
        raise RunError(f"workbench/views/vendor/{PLOTLY_FILE} is not the recorded file; reinstall workbench-interp")
    return body


def circuitsvis_source() -> str:
    """CircuitsVis's browser bundle, read from the installed package (1.3 MB; it asks for no remote file)."""
    spec = find_spec("circuitsvis")
    if spec is None or spec.origin is None:
        raise BadInput("circuitsvis is not installed; pip install circuitsvis")
    return (Path(spec.origin).parent / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")


@cache
def library(name: str) -> Library:
    """The library called `name` (`plotly` or `circuitsvis`)."""
    if name == PLOTLY:
        body = base64.b64encode(plotly_bytes()).decode("ascii")
        return Library(name, PLOTLY_VERSION, body, "plotly.js, © Plotly, Inc., MIT licence")
    if name == CIRCUITSVIS:
        from importlib.metadata import version

        body = packed(circuitsvis_source().encode("utf-8"))
        return Library(name, version("circuitsvis"), body, "CircuitsVis, © Alan Cooney and others, MIT licence")
    raise BadInput(f"no library called {name!r}; there are {PLOTLY!r} and {CIRCUITSVIS!r}")


def embedded(name: str) -> str:
    """The element that carries the library: of a type that never executes, until the viewer unpacks it."""
    held = library(name)
    return f'<script type="application/octet-stream" data-library="{esc(name)}">{held.body}</script>'
