"""Which model this is: a hash of its config, and a fingerprint of its weights that tells a base model from its finetune."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torch import Tensor

from workbench.offloading import named_values

SAMPLED = 64
"""Values of every tensor that the fingerprint looks at, at even strides."""


def fingerprint(model: Any) -> tuple[str, str]:
    """Config hash and weight fingerprint (name, shape and sampled values of each tensor) of a Hugging Face model.

    The version of transformers stands in the config and is no part of the model.
    """
    whole = model.config.to_dict()  # a vision tower's, too
    config = {k: v for k, v in whole.items() if not k.startswith("_") and k != "transformers_version"}
    text = json.dumps(config, sort_keys=True, default=str)
    parts = {name: _sampled(name, p) for name, p in named_values(model)}
    weights = hashlib.sha256(b"".join(parts[name] for name in sorted(parts)))
    return hashlib.sha256(text.encode()).hexdigest()[:16], weights.hexdigest()[:16]


def _sampled(name: str, p: Tensor) -> bytes:
    flat = p.detach().flatten()
    sample = flat[:: max(1, len(flat) // SAMPLED)][:SAMPLED].float().cpu().numpy()
    return f"{name} {tuple(p.shape)}".encode() + sample.tobytes()
