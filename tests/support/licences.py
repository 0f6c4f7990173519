"""Licences of what the package needs at run time, from installed metadata: `python tests/support/licences.py` prints
docs/licences.md. Versions are left out: they differ from machine to machine, licences seldom do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "workbench-interp"
EXTRAS = ("", "vision")
"""What `pip install workbench-interp[vision]` brings; the other extras are chosen by who wants Jupyter, Ray or a GPU."""
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0",
    "Unlicense", "Zlib",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "LLVM-exception",
}  # fmt: skip
EXCEPTIONS = {
    "certifi": "Mozilla's list of certificates, used as it comes and not changed",
    "tqdm": "parts of it are MPL-2.0, used as they come and not changed",
}
ON_GPUS = re.compile(r"(nvidia|cuda)-.*|triton")
"""torch brings these on Linux with CUDA: NVIDIA's own licences, and MIT for triton."""
KNOWN = (
    (r"apache.*2|apache software|apache$", "Apache-2.0"), (r"\bmit\b", "MIT"),
    (r"bsd-?3|3-clause|new bsd|modified bsd", "BSD-3-Clause"),
    (r"bsd-?2|2-clause|simplified bsd", "BSD-2-Clause"), (r"\bbsd\b", "BSD"), (r"python software foundation|psf", "PSF-2.0"),
    (r"mozilla|mpl", "MPL-2.0"), (r"isc", "ISC"), (r"unlicense", "Unlicense"), (r"hpnd|historical", "HPND"),
)  # fmt: skip


def needed(name: str = OURS, extras: tuple[str, ...] = EXTRAS, seen: set[str] | None = None) -> set[str]:
    """Names of installed distributions that one needs, those that they need included."""
    seen = set() if seen is None else seen
    for text in metadata.requires(name) or ():
        asked = Requirement(text)
        other = canonicalize_name(asked.name)
        if not any(asked.marker is None or asked.marker.evaluate({"extra": extra}) for extra in (extras or ("",))):
            continue
        if other in seen or other == OURS or ON_GPUS.fullmatch(other) or not _installed(other):
            continue
        seen.add(other)
        needed(other, tuple(asked.extras) or ("",), seen)
    return seen


def licence(name: str) -> str:
    """The licence as the distribution tells it: an expression, else its classifiers, else its text's first line."""
    about = metadata.metadata(name)
    if told := about.get("License-Expression"):
        return told.strip()
    classed = [c.rpartition("::")[2].strip() for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    said = [c for c in classed if c != "OSI Approved"] or [(about.get("License") or "").strip().partition("\n")[0]]
    return " AND ".join(sorted({name for text in said for name in _known(text)}))


def parts(expression: str) -> set[str]:
    """The licences that an expression names."""
    return set(re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", expression)) - {""}


def rows() -> Iterator[tuple[str, str]]:
    """Name and licence of each, by name."""
    return ((name, licence(name)) for name in sorted(needed()))


def page() -> str:
    """docs/licences.md."""
    lines = [f"| {name} | {told} | {EXCEPTIONS.get(name, '')} |" for name, told in rows()]
    return "\n".join([HEAD, *lines, ""])


def _installed(name: str) -> bool:
    try:
        return bool(metadata.distribution(name))
    except metadata.PackageNotFoundError:
        return False


def _known(text: str) -> list[str]:
    """All that a text names; of one licence the closest form."""
    found = [name for pattern, name in KNOWN if re.search(pattern, text, re.IGNORECASE)]
    closer = any(name.startswith("BSD-") for name in found)
    return [name for name in found if name != "BSD" or not closer] or [text or "not told"]


HEAD = """# Licences of what is needed

The workbench is MIT. This is what it needs at run time, with the extra `vision`, and what those need. The licence
is what each package's own metadata says, and BSD is one of its forms. `python tests/support/licences.py > docs/licences.md`
writes this page; a test compares it with what is installed and refuses licences that are not permissive, but for those with
a reason beside them. On Linux with CUDA, torch brings NVIDIA's libraries under NVIDIA's own licences, and triton (MIT).
Jupyter (BSD) and Ray (Apache-2.0) come with extras of their own. Plotly's bundle and its licence are part of the package
(`workbench/views/vendor`).

| package | licence | why it is here though it is not permissive |
|---|---|---|"""

if __name__ == "__main__":
    print(page(), end="")
