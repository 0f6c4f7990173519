"""The user's probe texts as strings; needs no torch."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import BadInput
from workbench.untrusted import text_of


def read_texts(source: str) -> dict[str, str]:
    """Texts by file name: one file, or every .txt of a folder. Raises BadInput in one line."""
    path = Path(source)
    files = sorted(path.glob("**/*.txt")) if path.is_dir() else [path]
    try:
        texts = {str(file): text_of(file) for file in files}
    except OSError as error:
        raise BadInput(f"texts={source}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadInput(f"texts={source}: not a text file") from None
    if not texts:
        raise BadInput(f"texts={source}: no .txt file in it")
    if empty := [name for name, held in texts.items() if not held.strip()]:
        raise BadInput(f"texts={empty[0]}: no text in it")
    return texts
