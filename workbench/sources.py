"""Where a model comes from: bundled name, local Hugging Face folder or hub id. Needs no torch, so it answers at once."""

from __future__ import annotations

import functools
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ModelError
from workbench.reference_models import catalogue
from workbench.safe_loading import TRUSTING
from workbench.unasked import check_here
from workbench.untrusted import LARGEST_CONFIG, parsed, text_of

_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
HUB_PATIENCE = 4.0
"""Seconds until an unreachable hub is said to be one."""


@dataclass(frozen=True)
class Source:
    """place: what Hugging Face loads from. name: short, fit for a file name. label: what the model is called."""

    place: str
    name: str
    label: str


def locate(source: str, trust_remote_code: bool = False) -> Source:
    """Where a model is. Raises ModelError, in one line with the remedy, for what cannot be loaded from there."""
    if not source.strip():
        raise ModelError("model= is empty: name a bundled model, a local folder or a hub id")
    if source in catalogue.PLANTED:
        return Source(source, source, catalogue.PLANTED[source].label)
    if source in catalogue.BUNDLED:
        folder = catalogue.folder(source)
        check_folder(folder, trust_remote_code)
        return Source(str(folder), source, catalogue.BUNDLED[source].label)
    if Path(source).is_dir():
        check_folder(Path(source), trust_remote_code)
        folder = Path(source).resolve()  # TransformerLens takes "pythia-70m" for the hub's, folder or not
        return Source(str(folder), folder.name, source)
    if not _HUB.fullmatch(source):
        catalogue.folder(source)  # raises with the nearest bundled name
    check_here(source)
    check_hub(source)
    return Source(source, source.replace("/", "--"), source)


def check_folder(folder: Path, trust_remote_code: bool) -> None:
    """Raises ModelError unless the folder holds a decoder as safetensors that needs no code of its own."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder}: no config.json; a model folder holds config.json, *.safetensors and a tokenizer")
    try:
        config = parsed(text_of(path, LARGEST_CONFIG), parse_constant=float)  # state-space models write Infinity
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    kinds = config.get("architectures") or [] if isinstance(config, dict) else None
    if not isinstance(kinds, list) or not all(isinstance(k, str) for k in kinds):
        raise ModelError(f"{path}: not the config of a model: an object with a list architectures is needed")
    if not any(folder.glob("*.safetensors")):
        pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        what = f"only pickled weights ({pickled[0].name}), which are not loaded" if pickled else "no weights"
        raise ModelError(f"{folder}: {what}; save the model with save_pretrained(..., safe_serialization=True)")
    if "auto_map" in config and not trust_remote_code:
        raise ModelError(f"{folder}: needs code of its own; {TRUSTING}")
    if kinds and not any(k.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for k in kinds):
        raise ModelError(f"{folder}: {kinds[0]} is not a decoder; heads are scanned in decoder language models")


@functools.cache  # once in a process; failures are not kept
def check_hub(source: str) -> None:
    """Fail fast and in one line where the hub cannot be reached and nothing is cached.

    The hub is asked without a token: who is logged in may be refused here and served by Hugging Face, which sends it.
    """
    from huggingface_hub import constants, get_token, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(source, "config.json"), str):
        return
    remedy = "download it elsewhere and give the folder, or use a bundled model (workbench models)"
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"{source}: not in the cache, and the hub is switched off (HF_HUB_OFFLINE); {remedy}")
    address = f"{constants.ENDPOINT}/{source}/resolve/main/config.json"
    try:
        urllib.request.urlopen(address, timeout=HUB_PATIENCE).close()
    except urllib.error.HTTPError as error:
        if error.code in (401, 403) and get_token() is None:
            raise ModelError(f"{source}: the hub wants a login (hf auth login), or has no such model") from None
        if error.code == 404:
            raise ModelError(f"{source}: the hub has no such model{catalogue.nearest(source)}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{source}: the hub cannot be reached ({error}); {remedy}") from None
