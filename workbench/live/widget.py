"""The shell of a live view: the viewer's module in a notebook output, and the messages between it and Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from workbench.errors import Unsupported, WorkbenchError
from workbench.views.text import finite
from workbench.views.viewer_source import kinds_in, viewer_css, viewer_js

Answers = Mapping[str, Callable[[Mapping[str, Any]], tuple[dict[str, Any], bytes | None]]]
"""By the name of a request: from its content to an answer (JSON) and bytes."""
_OWN = (
    ".page { margin: 0; padding: .6rem; max-width: none; font-size: 1rem; } .page figure { margin: 0 0 1rem; }"
    ".page table { color: inherit; } .page figure > figcaption::before { content: none; }"
)
"""Outputs of a notebook are no figures of one text, and have no numbers."""
_SCHEMES = {
    "@media (prefers-color-scheme: dark) {\n  :root {": "@media all {\n  :host(.dark) {",
    "@media print {\n  :root {": "@media print {\n  :host, :host(.dark) {",
    ":root": ":host", "body {": ".page {",
}  # fmt: skip
"""From the styles of a page to those of a shadow root whose host says whether it is dark (widget.js)."""


def answered(answers: Answers, message: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """What is sent back for one message {id, name, request}; an error is an answer, too, or the view would wait on."""
    try:
        answer, payload = answers[message["name"]](message["request"])
    except WorkbenchError as error:
        answer, payload = {"error": str(error)}, None
    except Exception as error:  # of the reader's own edit, or of a device: the view says it and goes on
        answer, payload = {"error": f"{type(error).__name__}: {error}"}, None
    return {"id": message["id"], "answer": finite(answer)}, [] if payload is None else [payload]


def module(html: str) -> str:
    """The ES module of a live view: the views that stand in `html`, their styles for a shadow root, and `render`."""
    glue = resources.files("workbench.live").joinpath("widget.js").read_text(encoding="utf-8")
    styles = viewer_css()
    for theirs, ours in _SCHEMES.items():
        assert theirs in styles, theirs
        styles = styles.replace(theirs, ours)
    styles += _OWN
    return f"{viewer_js(kinds_in(html))}const STYLE = {json.dumps(styles)};\n{glue}"


def live(html: str, static: str, answers: Answers | None = None, heads: list[list[int]] | None = None) -> Any:
    """A widget that shows `html` (blocks), answers its questions, and is `static` (HTML) where no kernel runs.

    Its trait `chosen` is the head that is shown, [layer, head] or empty; `heads` the list that the reader picked.
    Raises Unsupported where anywidget is not installed.
    """
    return _widget_class()(module(html), html, static, answers or {}, heads or [])


@cache
def _widget_class() -> Any:
    try:
        import anywidget  # pyright: ignore[reportMissingImports]
        import traitlets
    except ImportError:
        raise Unsupported('live views need anywidget: pip install "workbench-interp[notebook]"') from None

    class Live(anywidget.AnyWidget):
        """A live view; `heads` and `chosen` follow what the reader does, and lead it when they are set."""

        html = traitlets.Unicode().tag(sync=True)
        chosen = traitlets.List().tag(sync=True)
        heads = traitlets.List().tag(sync=True)

        def __init__(self, source: str, html: str, static: str, answers: Answers, heads: list[list[int]]) -> None:
            """Connect the messages."""
            self._esm = source
            super().__init__(html=html, heads=heads)
            self.static, self.answers = static, answers
            self.on_msg(self._answer)

        def _answer(self, _: Any, message: Any, buffers: Any) -> None:
            self.send(*answered(self.answers, message))

        def _repr_mimebundle_(self, **rest: Any) -> Any:
            """The live view, and the static picture for places without a kernel."""
            bundle = super()._repr_mimebundle_(**rest)
            data, *more = bundle if isinstance(bundle, tuple) else (bundle,)
            data = {**(data or {}), "text/html": self.static}
            return (data, *more) if more else data

    return Live
