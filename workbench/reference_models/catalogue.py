"""The bundled models: names, folders and what they are called everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from workbench.errors import ModelError, did_you_mean
from workbench.reference_models.planted import Planted, Roles, planted_models

HOME = Path(__file__).parent


@dataclass(frozen=True)
class Bundled:
    """A trained model that ships with the package; what its heads do is not known beforehand."""

    name: str
    summary: str
    label: str
    roles: Roles = field(default_factory=lambda: MappingProxyType({}))

    @property
    def folder(self) -> Path:
        """Its Hugging Face folder."""
        return HOME / self.name


TRAINED = "workbench reference model (llama architecture), not Meta's weights"
GPT2 = "workbench reference model (gpt2 architecture), not OpenAI's weights"
LLAVA = "workbench reference model (llava architecture), not the LLaVA authors' weights"
_ALL = (
    Bundled("llama", "4 layers × 16 heads, trained here on needles in a little English; has retrieval heads", TRAINED),
    Bundled(
        "gpt2", "4 layers × 8 heads, trained here on IOI and Colored Objects; OpenAI's is openai-community/gpt2", GPT2
    ),
    Bundled("sink-llama", "1 layer × 1 head, trained here; parks on <bos> in ordinary text and needs to", TRAINED),
    Bundled(
        "llava", "4 layers × 8 heads, trained here on rendered scenes; sees, and adds what usually goes along", LLAVA
    ),
)
PLANTED = planted_models()
BUNDLED: dict[str, Bundled | Planted] = {b.name: b for b in (*_ALL, *PLANTED.values())}


def folder(name: str) -> Path:
    """The folder of a bundled model. Raises ModelError for a planted one and, with the nearest name, for any other."""
    bundled = BUNDLED.get(name)
    if isinstance(bundled, Bundled):
        return bundled.folder
    if bundled is not None:
        raise ModelError(f"{name}: built on load, so it has no folder; workbench.load({name!r}) gives it")
    raise ModelError(
        f"{name}: no bundled model, folder or hub id (owner/name) of this name.{did_you_mean(name, BUNDLED)} "
        f"Bundled: {', '.join(BUNDLED)}"
    )


def nearest(name: str) -> str:
    """` Did you mean …?` for a bundled name, or nothing."""
    return did_you_mean(name, BUNDLED)
