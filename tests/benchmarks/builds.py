"""The models of the benchmarks, as local folders: the bundled llama widened, and random ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from workbench.reference_models import catalogue

WIDTH, LAYERS, INNER = 512, 8, 1408


def random_llama(folder: Path) -> Path:
    """A random model, d 512, 8 layers, 16 heads: it says no expected answer, so everything is decoded."""
    config = _config()
    torch.manual_seed(0)
    return _save(LlamaForCausalLM(config), folder)


def random_gpt2(folder: Path, layers: int = 24, heads: int = 16, width: int = 1024, vocabulary: int = 50257) -> Path:
    """A random model in the shape of GPT-2 Medium."""
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=0, eos_token_id=0
    )  # fmt: skip
    torch.manual_seed(0)
    return _save(GPT2LMHeadModel(config), folder)


def wide_llama(folder: Path) -> Path:
    """The bundled llama in a body of d 512 and 8 layers: what it says is the same, what it costs is the larger shape's.

    New channels of the residual stream are never written to (zero rows), new layers write zero, and what feeds nothing
    is random. The norms make good for the zero channels in their mean.
    """
    old = AutoModelForCausalLM.from_pretrained(catalogue.folder("llama"), dtype=torch.float32)
    config = _config()
    config.rms_norm_eps = old.config.rms_norm_eps * old.config.hidden_size / WIDTH
    torch.manual_seed(0)
    new = LlamaForCausalLM(config)
    weights = old.state_dict()
    for name, p in new.state_dict().items():
        _widen(name, p, weights.get(name), (old.config.hidden_size / WIDTH) ** 0.5)
    return _save(new, folder)


@torch.no_grad()
def _widen(name: str, new: torch.Tensor, old: torch.Tensor | None, norm: float) -> None:
    """Fill a weight of the wide model in place."""
    writes = name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight", "lm_head.weight"))
    if writes:
        new.zero_()
    if old is not None:
        corner = tuple(slice(n) for n in old.shape)
        new[corner] = old * norm if new.dim() == 1 else old


def _config() -> LlamaConfig:
    """The bundled config in the larger shape."""
    values: dict[str, Any] = json.loads((catalogue.folder("llama") / "config.json").read_text())
    values |= {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "intermediate_size": INNER, "dtype": "float32"}
    return LlamaConfig(**values)


def _save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(catalogue.folder("llama") / name, folder / name)
    return folder
