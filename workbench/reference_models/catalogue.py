"""The bundled models: names, folders and what they are called everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ModelError, did_you_mean

HOME = Path(__file__).parent


@dataclass(frozen=True)
class Bundled:
    """A model that ships with the package."""

    name: str
    summary: str
    label: str

    @property
    def folder(self) -> Path:
        """Its Hugging Face folder."""
        return HOME / self.name


TRAINED = "workbench reference model (llama architecture), not Meta's weights"
_ALL = (
    Bundled("llama", "4 layers × 16 heads, trained here on needles in a little English; has retrieval heads", TRAINED),
)
BUNDLED = {b.name: b for b in _ALL}


def folder(name: str) -> Path:
    """The folder of a bundled model. Raises ModelError, with the nearest name, for any other."""
    if name in BUNDLED:
        return BUNDLED[name].folder
    raise ModelError(
        f"{name}: no bundled model, folder or hub id (owner/name) of this name.{did_you_mean(name, BUNDLED)} "
        f"Bundled: {', '.join(BUNDLED)}"
    )


def nearest(name: str) -> str:
    """` Did you mean …?` for a bundled name, or nothing."""
    return did_you_mean(name, BUNDLED)
