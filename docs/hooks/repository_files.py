"""Lets pages link to any file of the repository: what lies outside docs/ comes into the site at build time.

A link `../workbench/reference_models/llama/README.md` works where the file is read as it lies, and leads to the page
`repository/workbench/reference_models/llama/README.md` of the site. No copy is kept outside the built site. A link to
what is not there is left as it is, and mkdocs refuses it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

HOME = "repository"
LINK = re.compile(r"(?<=\]\()[^()\s#:]+(?=[#)])")
"""A relative target in Markdown, without its anchor."""


def on_files(files: Any, *, config: Any) -> Any:
    """Add the files outside docs/ that pages link to, and those that these link to."""
    waiting = [Path(file.abs_src_path) for file in files.documentation_pages()]
    known: set[Path] = set()
    while waiting:
        page = waiting.pop()
        for target in _linked(page, config):
            if target in known or target.is_relative_to(config.docs_dir):
                continue
            known.add(target)
            files.append(File.generated(config, _uri(target, config), abs_src_path=str(target)))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Turn links from where the page lies into links from where it stands in the site."""
    home, here = Path(page.file.abs_src_path).parent, posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        target = _target(home, link[0], config)
        return link[0] if target is None else posixpath.relpath(_uri(target, config), here or ".")

    return LINK.sub(moved, markdown)


def _linked(page: Path, config: Any) -> Iterator[Path]:
    """The files of the repository that a page links to."""
    found = (_target(page.parent, link, config) for link in LINK.findall(page.read_text(encoding="utf-8")))
    return (target for target in found if target is not None)


def _target(home: Path, link: str, config: Any) -> Path | None:
    """The file that a link means, None where there is none in the repository."""
    path = Path(os.path.normpath(home / link))
    return path if path.is_relative_to(Path(config.docs_dir).parent) and path.is_file() else None


def _uri(target: Path, config: Any) -> str:
    """Where a file stands in the site, as mkdocs names sources."""
    docs = Path(config.docs_dir)
    inside = target.is_relative_to(docs)
    return target.relative_to(docs).as_posix() if inside else f"{HOME}/{target.relative_to(docs.parent).as_posix()}"
