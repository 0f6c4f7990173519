"""What every page and notebook view must satisfy in a browser, whatever stands on it."""

from __future__ import annotations

from browser_pages import OVERFLOW

UNSOUND = """() => {
  const shadows = [...document.querySelectorAll("*")].map((e) => e.shadowRoot).filter(Boolean);
  const all = (where) => [document, ...shadows].flatMap((root) => [...root.querySelectorAll(where)]);
  const seen = (e) => e.getClientRects().length > 0, found = [];
  const name = (e) => (e.getAttribute("aria-label") ?? e.alt ?? "").trim(), words = (e) => e?.textContent.trim();
  const need = (where, good, said) => {
    for (const e of all(where)) if (!good(e)) found.push(`${said}: ${e.outerHTML.slice(0, 90)}`);
  };
  const drawn = (e) => {
    const dots = new Uint32Array(e.getContext("2d").getImageData(0, 0, e.width || 1, e.height || 1).data.buffer);
    return dots.some((dot) => dot !== dots[0]);
  };
  need("[role=img], [role=application], [role=region], [role=group], [role=grid], img", name, "no name");
  need("select, input, textarea", (e) => e.labels.length || name(e), "no label");
  need("button, summary, th", (e) => words(e) || name(e), "no words");
  need("figure[data-block]", (e) => words(e.querySelector("h3")) || words(e.querySelector("figcaption")), "no title");
  need(".map svg, .graph svg", (e) => e.querySelector("text"), "no labels in the drawing");
  need("canvas", (e) => !seen(e) || drawn(e), "blank canvas");
  need("img", (e) => e.complete && e.naturalWidth, "a picture that is not drawn");
  need("[tabindex]", (e) => e.tabIndex <= 0, "a tab order of its own");
  return found;
}"""


def unsound(page) -> list[str]:
    """What is wrong with a page that is open: errors, requests, overflow, blank canvases, things without a name."""
    wide, outside = page.evaluate(OVERFLOW)
    found = [f"console: {fault}" for fault in page.faults] + page.evaluate(UNSOUND)
    found += [
        f"asks for {address}"
        for address in getattr(page, "requests", [])[1:]
        if not address.startswith(("data:", "blob:"))
    ]
    found += [f"{wide} px wider than the window"] if wide > 0 else []
    return found + [f"stands out: {html[:90]}" for html in outside]
