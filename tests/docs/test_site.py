"""The site of the documentation: it builds strictly, refuses what is broken, and asks nothing of the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import doc_pages
import pytest

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
pytest.importorskip("material", reason="mkdocs-material is not installed")

LINK = re.compile(r"\]\(([^()\s#:]+)(?:#[\w-]+)?\)")
ASKS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "embed": "src", "object": "data"}
"""Elements that load something, and by which attribute; of `link` all but those that only tell where something is."""
TELLS = {"canonical", "next", "prev", "alternate"}


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mkdocs", "build", "-f", str(root / "mkdocs.yml"), "-d", str(out)]
    return subprocess.run(words, capture_output=True, text=True, cwd=root)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(doc_pages.ROOT, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Asked(HTMLParser):
    """What a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        held = {name: value or "" for name, value in attrs}
        if tag in ASKS:
            self.found.append(held.get(ASKS[tag], ""))
        elif tag == "link" and held.get("rel") not in TELLS:
            self.found.append(held.get("href", ""))


def outside(text: str, kind: str) -> list[str]:
    """Addresses elsewhere that a page or a style sheet loads."""
    found = Asked(text).found if kind == ".html" else re.findall(r"(?:url\(|@import )\s*['\"]?([^'\")\s]+)", text)
    return [address for address in found if re.match(r"(?:[a-z]+:)?//", address)]


def test_no_page_loads_anything_from_elsewhere(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len([f for f in files if f.suffix == ".html"]) > 15 and any(f.suffix == ".css" for f in files)
    assert {
        path.name: found for path in files if (found := outside(path.read_text(encoding="utf-8"), path.suffix))
    } == {}


def test_negative_control_loading_is_seen():
    page = (
        '<a href="https://a.b"></a><link rel="stylesheet" href="//c.d/e.css"><img src="https://f.g/h.png"><img src="i">'
    )
    assert outside(page, ".html") == ["//c.d/e.css", "https://f.g/h.png"]
    assert outside("@import 'https://a.b/c.css'; x { src: url(d.woff2), url(https://e.f/g.woff2) }", ".css") == [
        "https://a.b/c.css", "https://e.f/g.woff2",
    ]  # fmt: skip


def test_the_cards_of_the_reference_models_are_pages(site):
    cards = sorted((doc_pages.ROOT / "workbench" / "reference_models").glob("*/README.md"))
    assert len(cards) >= 4
    for card in cards:
        page = site / "repository" / card.relative_to(doc_pages.ROOT).parent / "index.html"
        assert card.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") in page.read_text(encoding="utf-8")
        assert f'href="{page.relative_to(site).as_posix()}"' in (site / "index.html").read_text(encoding="utf-8")


def test_a_broken_link_or_anchor_fails_the_build(tmp_path):
    """A small copy of the documentation in which one page leads nowhere, twice."""
    (tmp_path / "docs").mkdir()
    shutil.copytree(doc_pages.ROOT / "docs" / "hooks", tmp_path / "docs" / "hooks")
    settings = (doc_pages.ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings + "\nnav: [index.md]\n", encoding="utf-8")
    page, card = tmp_path / "docs" / "index.md", tmp_path / "card.md"
    card.write_text("# Card\n\n[back](docs/index.md#here)\n")
    page.write_text("# Here\n\n[card](../card.md) [there](#here)\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert 'href="../index.html#here"' in (tmp_path / "out" / "repository" / "card.html").read_text()
    page.write_text("# Here\n\n[gone](../gone.md) [elsewhere](#there)\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0 and "gone.md" in done.stderr and "#there" in done.stderr


@pytest.mark.parametrize("page", doc_pages.PAGES, ids=lambda p: p.stem)
def test_what_a_page_links_to_is_in_the_repository(page):
    text = doc_pages.FENCE.sub("", page.read_text(encoding="utf-8"))
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []
