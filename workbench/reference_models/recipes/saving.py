"""Trained weights as a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def save(weights: Mapping[str, Tensor], config: Mapping[str, object], folder: Path) -> None:
    """Write bf16 safetensors and config.json."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    rounded = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in weights.items()}
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
