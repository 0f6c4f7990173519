"""The GPT-2 architecture in plain torch, for training on a CPU, and its Hugging Face form.

Queries, keys and values are matrices of their own, so that Muon orthogonalises each; GPT-2 stores them as one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.reference_models.recipes.saving import save


@dataclass(frozen=True)
class Shape:
    """Sizes of the model."""

    vocabulary: int
    d_model: int = 128
    layers: int = 4
    heads: int = 8
    mlp: int = 256
    context: int = 128


class Linear(nn.Module):
    """x Wᵀ + b, from small random weights."""

    def __init__(self, out: int, inp: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, inp) * gain / math.sqrt(inp))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Float[Tensor, "... inp"]) -> Float[Tensor, "... out"]:
        """The product."""
        return F.linear(x, self.weight, self.bias)


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm.

    Keys begin with the weights of the queries, so that a head first looks at what is like its own token or near it
    (after Trockman and Kolter 2023, arXiv 2305.09828); from two random matrices induction takes far more steps.
    """

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.heads, d = s.heads, s.d_model
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v, self.o = Linear(d, d), Linear(d, d), Linear(d, d), Linear(d, d, 0.3)
        self.k.weight.data.copy_(self.q.weight)
        self.up, self.down = Linear(s.mlp, d), Linear(d, s.mlp, 0.3)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """The stream after the block."""
        h = self.norm1(x)
        q, k, v = (f(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(z.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    def hugging_face(self) -> dict[str, Tensor]:
        """Parameters under the names of a block of transformers' GPT-2, whose matrices are [in, out]."""
        joined = (self.q, self.k, self.v)
        out = {
            "attn.c_attn.weight": torch.cat([f.weight for f in joined]).T,
            "attn.c_attn.bias": torch.cat([f.bias for f in joined]),
        }
        plain = {"attn.c_proj": self.o, "mlp.c_fc": self.up, "mlp.c_proj": self.down}
        out |= {f"{name}.weight": f.weight.T for name, f in plain.items()}
        out |= {f"{name}.bias": f.bias for name, f in plain.items()}
        for name, norm in (("ln_1", self.norm1), ("ln_2", self.norm2)):
            out |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
        return out


class TinyGpt2(nn.Module):
    """A GPT-2 with tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Parameter(torch.randn(shape.vocabulary, shape.d_model) * 0.05)
        self.places = nn.Parameter(waves(shape.context, shape.d_model) * 0.07)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.d_model)

    def forward(
        self, tokens: Int[Tensor, "b t"], positions: Int[Tensor, "b t"], priced: bool = False
    ) -> tuple[Float[Tensor, "b t d"], Tensor]:
        """The normalised final residual stream; and a price of its heads, which this model does not have: zero."""
        x = self.embed[tokens] + self.places[positions]
        for block in self.blocks:
            x = block(x)
        return self.norm(x), x.new_zeros(())

    def hugging_face(self) -> dict[str, Tensor]:
        """The parameters under the names of transformers' GPT2LMHeadModel."""
        out: dict[str, Tensor] = {"transformer.wte.weight": self.embed, "transformer.wpe.weight": self.places}
        out |= {"transformer.ln_f.weight": self.norm.weight, "transformer.ln_f.bias": self.norm.bias}
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            out |= {f"transformer.h.{i}.{name}": t for name, t in block.hugging_face().items()}
        return out


def waves(n: int, d: int) -> Float[Tensor, "n d"]:
    """Sines and cosines of wavelengths from 3 to n: where the places begin to be learned.

    From random places, or from waves that are mostly long, heads that look one token back take many more steps to form.
    """
    rates = 2 * math.pi / 3 * (n / 3) ** (-torch.arange(d // 2) / (d // 2 - 1))
    angle = torch.arange(n)[:, None] * rates
    return torch.cat((angle.sin(), angle.cos()), -1)


def config(shape: Shape) -> dict[str, object]:
    """The config.json of the model."""
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": shape.vocabulary,
        "n_embd": shape.d_model, "n_inner": shape.mlp, "n_layer": shape.layers, "n_head": shape.heads,
        "n_positions": shape.context, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "tie_word_embeddings": True,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "dtype": "bfloat16",
    }  # fmt: skip


def export(model: TinyGpt2, folder: Path) -> None:
    """Write bf16 safetensors and config.json."""
    save(model.hugging_face(), config(model.shape), folder)
