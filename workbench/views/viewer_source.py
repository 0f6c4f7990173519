"""The viewer: one ES module and one style sheet, made of a few small files each; no build step.

To add a view, add one Python file here and one or two files in the folder `viewer`; nothing else changes.

1. `workbench/views/my_view.py`: a frozen dataclass with `libraries` and `html()` (see `workbench.views.block.Block`).
   `html()` returns `figure("myview", title, body + data(numbers), caption)`; every text in it goes through `esc`.
2. `workbench/views/viewer/myview.js`: `views.myview = async (block, host) => { const numbers = await dataOf(block); … };`
   It is called once for each element with `data-block="myview"`. Texts enter as `textContent` (`el` does it), never as
   markup; the word list of `test_the_viewer_is_small_and_has_no_way_out` says what else is refused.
3. `workbench/views/viewer/myview.css`, if it needs one: rules under `.fig-myview`, with the variables of core.css
   (`--ink`, `--paper`, `--accent`, …), so that dark pages and paper come by themselves.

Joined in this order: core, saving, the views by name, mount. A page carries the views that stand on it, no others. Each
view stands in braces of its own: its names hide nobody else's. What views share is in core.js: `el`, `dataOf`, `bytesOf`
(what `block.blob` holds), `library`, `number`, `styled`, `onScheme`, `keyTable`, and `announce` / `onHead` for the one head
that all figures of a page show (its address, #L12H7, is kept by mount.js). `host` is null in a page; in a notebook widget
`await host.ask(name, request)` asks the kernel.

saving.js puts CSV, SVG and PNG under every figure: the numbers of its tables, and the picture of its `.map svg`,
`.graph svg`, `table.grid` or `div.tokens`. A view that knows better returns `{ csv() -> text, svg() -> text }`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

MAX_BYTES = 40_000
"""What the module of a page may weigh, in UTF-8 (a test)."""
FIRST, LAST = ("core", "saving"), "mount"
_COMMENT = re.compile(r"^\s*(?://[^\n]*|/\*.*?\*/)\n", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r'data-block="(\w+)"')


def viewer_js(kinds: Iterable[str] | None = None) -> str:
    """The module with the views of some kinds of block (default: all); `mount(root, host)` brings them to life.

    Comments and indentation stay here; nothing else is changed.
    """
    parts = dict(_sources(".js"))
    first, last = [parts.pop(name) for name in FIRST], parts.pop(LAST)
    wanted = parts if kinds is None else {name: parts[name] for name in parts if name in set(kinds)}
    whole = "".join([*first, *(f"{{\n{text}}}\n" for text in wanted.values()), last])
    return re.sub(r"^\s+", "", _COMMENT.sub("", whole), flags=re.MULTILINE)


def kinds_in(html: str) -> set[str]:
    """The kinds of block that stand in a page; escaped text cannot name one."""
    return set(_BLOCK.findall(html))


def viewer_css() -> str:
    """The style sheet: core.css, then those of the views by name."""
    parts = dict(_sources(".css"))
    return "".join([parts.pop(FIRST[0]), *parts.values()])


@cache
def _sources(ending: str) -> tuple[tuple[str, str], ...]:
    """Names and texts of the folder's files of one kind, in the order of their names."""
    files = resources.files("workbench.views").joinpath("viewer").iterdir()
    found = {file.name: file for file in files if file.name.endswith(ending)}
    return tuple((name.removesuffix(ending), found[name].read_text(encoding="utf-8")) for name in sorted(found))
