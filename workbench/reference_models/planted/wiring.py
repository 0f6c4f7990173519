"""The frame of the planted models: a Llama whose weights are zero, and the wires that make heads of it.

The residual stream is blocks of one token code each, and a ballast. The ballast is so large that RMSNorm divides by
nearly the same number everywhere, which its weight undoes; it also serves as the constant that biases are made of.
Rotary planes turn so differently that the fast ones tell offsets apart and the slow ones stand still in the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin
from typing import TYPE_CHECKING, Any

from workbench.reference_models.planted.codes import CODE, SQUARE, codes, own

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LAYERS, HEADS, KV_HEADS, HEAD_DIM, WIDTH, CONTEXT = 3, 8, 4, 128, 200, 4096
THETA = 1e28
"""So steep that the slow planes turn by less than 0.03 rad over the whole context."""
FAST = 12
"""Rotary planes that are too fast to hold content; offsets are told apart by the first TURNING of them."""
TURNING = 6
BALLAST = 32.0

TOKEN, BACK1, BACK2, BACK3, OUT = (slice(i * CODE, (i + 1) * CODE) for i in range(5))
CONSTANT = 5 * CODE
SPARE = CONSTANT + 1
"""The first of a few dimensions that no circuit needs."""

SLOW = sorted(
    (d for d in range(HEAD_DIM) if d % (HEAD_DIM // 2) >= FAST), key=lambda d: d % (HEAD_DIM // 2), reverse=True
)
SINK = SLOW[0]
"""The slot of a head in which queries ask for the place to park."""
MATCH = CODE - 3
"""Entries of a code that are compared: words, `is`, `.`."""
CHANNELS = [SLOW[2 + c * MATCH : 2 + (c + 1) * MATCH] for c in range(3)]
SHARP = 30.0
"""Score of one token that matches; all scores below are in units of it."""
UNIT = SHARP * HEAD_DIM**0.5 / SQUARE
NATS = 5.0
"""What one head that copies adds to the logit of its token."""


@dataclass(frozen=True)
class Head:
    """The weights of one head, as views to write into. Heads of a kv group share k and v."""

    q: Float[Tensor, "head width"]
    k: Float[Tensor, "head width"]
    v: Float[Tensor, "head width"]
    o: Float[Tensor, "width head"]


class Frame:
    """The model under construction."""

    def __init__(self) -> None:
        self.model = _blank()
        embedding, unembedding = self.model.model.embed_tokens.weight, self.model.lm_head.weight
        embedding.data[:, TOKEN], embedding.data[:, CONSTANT] = codes(), BALLAST
        unembedding.data[:, OUT] = codes() * (NATS / SQUARE)

    def head(self, layer: int, head: int) -> Head:
        """The views of a head."""
        part = self.model.model.layers[layer].self_attn
        own_rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        group = head // (HEADS // KV_HEADS)
        shared = slice(group * HEAD_DIM, (group + 1) * HEAD_DIM)
        q, k, v, o = (getattr(part, f"{x}_proj").weight.data for x in "qkvo")
        return Head(q[own_rows], k[shared], v[shared], o[:, own_rows])

    def say(self, token: str, nats: float) -> None:
        """Give a token a logit that needs no head: what the model says when nothing was copied."""
        from workbench.reference_models.recipes.grammar import INDEX

        self.model.lm_head.weight.data[INDEX[token], CONSTANT] = nats / BALLAST

    def finished(self) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        return self.model.eval(), _tokenizer()


def _blank() -> Any:
    """A LlamaForCausalLM of zeros whose norms are the identity; leaves the random state as it was."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(codes()), hidden_size=WIDTH, intermediate_size=WIDTH // HEADS, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM, max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": THETA}, rms_norm_eps=1e-6, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config).float()
    for name, p in model.named_parameters():
        p.data.fill_(BALLAST / WIDTH**0.5 if "norm" in name else 0.0)
    return model


def _tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    from workbench.reference_models.tokenizer import BOS, EOS, PAD, UNK, build_tokenizer

    return PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(), pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNK,
        model_max_length=CONTEXT, padding_side="left", clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        name_or_path="planted", add_bos_token=True,  # the bridge asks for both, lest it loads the tokenizer anew
    )  # fmt: skip


def diagonal(weight: Tensor, rows: list[int], columns: slice, gain: float = 1.0) -> None:
    """Wire entries of a block to slots one to one, as far as there are slots."""
    weight[rows, list(range(columns.start, columns.start + len(rows)))] += gain


def constant(weight: Tensor, row: int, value: float) -> None:
    """Give a slot the same value at every token."""
    weight[row, CONSTANT] += value / BALLAST


def carries(head: Head, but: tuple[str, ...] = ("<bos>",)) -> None:
    """The group's value is the token's code; for the tokens of `but` it is zero."""
    kept = [i for i in range(CODE) if i not in [own(token) for token in but]]
    head.v[kept, [TOKEN.start + i for i in kept]] = 1.0


def writes(head: Head, block: slice, gain: float = 1.0) -> None:
    """What the group carries is written to a block."""
    diagonal(head.o.T, list(range(CODE)), block, gain)


def keys_turn(head: Head) -> None:
    """The group's keys tell where they stand."""
    for plane in range(TURNING):
        constant(head.k, plane, 1.0)


def looks_back(head: Head, offset: int) -> None:
    """Attend to the key so many tokens before: every fast plane's score is a cosine that peaks there."""
    for plane in range(TURNING):
        angle = offset * THETA ** (-plane / (HEAD_DIM // 2))
        reach = 40 * HEAD_DIM**0.5  # the runner-up, next to the offset, then stands 21 below
        constant(head.q, plane, reach * cos(angle))
        constant(head.q, plane + HEAD_DIM // 2, -reach * sin(angle))


def keys_hold(head: Head, blocks: tuple[slice, ...]) -> None:
    """The group's keys show a block per channel."""
    for channel, block in zip(CHANNELS, blocks, strict=False):
        diagonal(head.k, channel, block)


def seeks(head: Head, blocks: tuple[slice | None, ...]) -> None:
    """Attend to keys whose channels show what these blocks hold."""
    for channel, block in zip(CHANNELS, blocks, strict=False):
        if block is not None:
            diagonal(head.q, channel, block, UNIT)


def bos_is_sink(head: Head) -> None:
    """The group's sink is `<bos>`."""
    head.k[SINK, TOKEN.start + own("<bos>")] = 1.0


def parks(head: Head, level: float) -> None:
    """A head without a match of this many tokens attends to its group's sink."""
    constant(head.q, SINK, level * UNIT * SQUARE**0.5)


def stray(head: Head, seed: int) -> None:
    """Random weights: scores of about ±2, an output of less than a tenth of a code."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    for weight, size in ((head.q, 0.5), (head.k, 0.5), (head.v, 0.015), (head.o, 0.015)):
        noise = torch.randn(weight.shape, generator=draw) * size
        weight += noise
        (weight[CONSTANT] if weight is head.o else weight[:, CONSTANT]).zero_()
