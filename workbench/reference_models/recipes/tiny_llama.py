"""The Llama architecture in plain torch, for training on a CPU, and its export to the Hugging Face format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.reference_models.recipes.saving import save

NAMES = {
    "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
"""Our parameters and their names in a layer of transformers' Llama."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the model."""

    vocabulary: int
    d_model: int = 128
    layers: int = 4
    heads: int = 16
    kv_heads: int = 4
    head_dim: int = 32
    mlp: int = 192
    theta: float = 10_000.0
    context: int = 4096
    tied: bool = True  # the unembedding is the embedding


class Block(nn.Module):
    """Attention and SwiGLU; returns the stream and the price of its heads."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.shape = s

        def matrix(out: int, inp: int, gain: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(out, inp) * gain / math.sqrt(inp))

        self.norm1, self.norm2 = nn.Parameter(torch.ones(s.d_model)), nn.Parameter(torch.ones(s.d_model))
        self.q = matrix(s.heads * s.head_dim, s.d_model)
        self.k = matrix(s.kv_heads * s.head_dim, s.d_model)
        self.v = matrix(s.kv_heads * s.head_dim, s.d_model)
        self.o = matrix(s.d_model, s.heads * s.head_dim, 0.3)
        self.gate, self.up = matrix(s.mlp, s.d_model), matrix(s.mlp, s.d_model)
        self.down = matrix(s.d_model, s.mlp, 0.3)

    def forward(self, x: Float[Tensor, "b t d"], cos: Tensor, sin: Tensor, priced: bool) -> tuple[Tensor, Tensor]:
        """The stream after the block, and the summed rms of what its heads write (zero unless priced)."""
        s, (b, t, d) = self.shape, x.shape

        def split(weight: Tensor, heads: int) -> Tensor:
            return F.linear(h, weight).view(b, t, heads, s.head_dim).transpose(1, 2)

        def rotate(y: Tensor) -> Tensor:
            left, right = y.chunk(2, -1)
            return torch.cat((left * cos - right * sin, right * cos + left * sin), -1)

        h = F.rms_norm(x, (d,), self.norm1, 1e-6)
        q, k, v = rotate(split(self.q, s.heads)), rotate(split(self.k, s.kv_heads)), split(self.v, s.kv_heads)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        price = x.new_zeros(())
        if priced:  # rms of what each head writes, from its Gram matrix: no [b, t, heads, d] tensor
            o = self.o.view(d, s.heads, s.head_dim)
            gram = torch.einsum("dhe,dhf->hef", o, o)
            square = torch.einsum("bhte,hef,bhtf->h", z, gram, z) / (b * t * d)
            price = (square.clamp_min(0) + 1e-6).sqrt().sum()
        x = x + F.linear(z.transpose(1, 2).reshape(b, t, -1), self.o)
        h = F.rms_norm(x, (d,), self.norm2, 1e-6)
        return x + F.linear(F.silu(F.linear(h, self.gate)) * F.linear(h, self.up), self.down), price


class TinyLlama(nn.Module):
    """A Llama; `positions` may jump ahead, so that short rows train long distances."""

    inverse: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Parameter(torch.randn(shape.vocabulary, shape.d_model) * 0.05)
        self.unembed = self.embed if shape.tied else nn.Parameter(torch.randn(shape.vocabulary, shape.d_model) * 0.05)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.d_model))
        inverse = shape.theta ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        self.register_buffer("inverse", inverse, persistent=False)

    def forward(
        self, tokens: Int[Tensor, "b t"], positions: Int[Tensor, "b t"], priced: bool = False
    ) -> tuple[Float[Tensor, "b t d"], Tensor]:
        """The normalised final residual stream and the summed price of all heads."""
        angle = positions[:, None, :, None].float() * self.inverse
        cos, sin = angle.cos(), angle.sin()
        x, price = self.embed[tokens], self.embed.new_zeros(())
        for block in self.blocks:
            x, p = block(x, cos, sin, priced)
            price = price + p
        return F.rms_norm(x, (x.shape[-1],), self.norm, 1e-6), price

    def hugging_face(self) -> dict[str, nn.Parameter]:
        """The parameters under the names of transformers' LlamaForCausalLM."""
        out = {"model.embed_tokens.weight": self.embed, "model.norm.weight": self.norm}
        out |= {} if self.shape.tied else {"lm_head.weight": self.unembed}
        for i, block in enumerate(self.blocks):
            out |= {f"model.layers.{i}.{hf}.weight": getattr(block, ours) for ours, hf in NAMES.items()}
        return out

    @torch.no_grad()
    def read(self, folder: Path) -> None:
        """Take the weights of an exported model."""
        from safetensors.torch import load_file

        stored = load_file(folder / "model.safetensors")
        for name, parameter in self.hugging_face().items():
            parameter.copy_(stored[name])


def config(shape: Shape) -> dict[str, object]:
    """The config.json of the model."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": shape.vocabulary,
        "hidden_size": shape.d_model, "intermediate_size": shape.mlp, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim,
        "rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "default", "rope_theta": shape.theta},
        "max_position_embeddings": shape.context, "tie_word_embeddings": shape.tied, "hidden_act": "silu",
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "dtype": "bfloat16",
    }  # fmt: skip


def export(model: TinyLlama, folder: Path) -> None:
    """Write bf16 safetensors and config.json."""
    save(model.hugging_face(), config(model.shape), folder)
