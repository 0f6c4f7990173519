"""A live view in a browser as anywidget would show it, with Python behind it and no Jupyter."""

from __future__ import annotations

import base64
import json

import pytest

from workbench.live.widget import answered, module

MODEL = """([html, heads]) => { window.model = {
  values: { html, chosen: [], heads }, handlers: {}, sent: [],
  get(k) { return this.values[k]; }, set(k, v) { this.values[k] = v; }, save_changes() {},
  on(k, f) { this.handlers[k] = f; }, off() {},
  send(m) { this.sent.push(m.name); window.kernel(JSON.stringify(m)).then(([text, bytes]) => {
    const buffers = bytes ? [new DataView(Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0)).buffer)] : [];
    this.handlers["msg:custom"](JSON.parse(text), buffers); }); },
}; }"""
RENDER = """async (source) => {
  const text = new TextDecoder().decode(Uint8Array.from(atob(source), (c) => c.charCodeAt(0)));
  const widget = (await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })))).default;
  const el = document.body.appendChild(document.createElement("div"));
  await widget.render({ model, el });
}"""


def bring_to_life(page, html, answers, heads=()):
    """A live view in an empty page, and a model whose messages Python answers."""

    def kernel(text):
        back, payload = answered(answers, json.loads(text))
        return [json.dumps(back), base64.b64encode(payload[0]).decode() if payload else None]

    page.expose_function("kernel", kernel)
    page.goto("about:blank")
    page.evaluate(MODEL, [html, list(heads)])
    page.evaluate(RENDER, base64.b64encode(module(html).encode()).decode())


@pytest.fixture
def notebook(browser):
    """Opens a live view as anywidget would, and collects every request and error."""
    contexts = []

    def opened(html, answers, width=800, scheme="light", heads=()):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.requests, page.faults = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: page.faults.append(str(e)))
        bring_to_life(page, html, answers, heads)
        return page

    yield opened
    for context in contexts:
        context.close()
