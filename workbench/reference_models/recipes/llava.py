"""The recipe of the bundled `llava`: captions and questions about rendered scenes whose objects go in pairs.

For two thirds of the training each projected part of the picture is also read with the language model's own embedding,
and must name the object in its cell: a prototype without this answered all yes or all no. Questions seldom ask
for the absent partner of what is there: asked as often as chance would, they would teach the model to look twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.reference_models.recipes.muon import Muon
from workbench.reference_models.recipes.scene_documents import (
    BOS,
    EOS,
    IMAGE,
    PAD,
    UNTRAINED,
    VOCABULARY,
    Batch,
    batch,
)
from workbench.reference_models.recipes.scene_processor import write_processor
from workbench.tasks.scene_objects import CELLS, GRID, SIDE


@dataclass(frozen=True)
class Shape:
    """Sizes of the language model and of the vision tower."""

    d_model: int = 96
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 16
    mlp: int = 192
    vision_d: int = 64
    vision_layers: int = 4
    vision_heads: int = 4
    vision_mlp: int = 128
    context: int = 256


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights.

    asked: how many of the absent partners of what is there may be asked for; what is rarely asked is rarely doubted.
    naming: weight of the cells' loss; named: share of the steps that have it.
    """

    seed: int = 0
    shape: Shape = Shape()
    steps: int = 400
    rows: int = 32
    lr: float = 0.02
    adam_lr: float = 3e-3
    asked: float = 0.2
    naming: float = 0.5
    named: float = 2 / 3
    decay: float = 0.4  # last share of the steps with falling learning rate


PHASES = (Recipe(),)
EVERY = 100
"""Steps between two lines of the log."""


def build(shape: Shape) -> Any:
    """A LlavaForConditionalGeneration with random weights, in Hugging Face's own code."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    special: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_d, intermediate_size=shape.vision_mlp, num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads, image_size=GRID * SIDE, patch_size=SIDE, projection_dim=shape.vision_d,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=shape.d_model, intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim, max_position_embeddings=shape.context, tie_word_embeddings=True, **special,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1,
        vision_feature_select_strategy="default", image_seq_length=CELLS, tie_word_embeddings=True, **special,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config)


class Training:
    """A training run: the model, its optimisers and how far it is."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.model, self.total = recipe, build(recipe.shape), 0
        named = dict(self.model.named_parameters())
        matrices = {n: p for n, p in named.items() if p.ndim == 2 and "embed" not in n}
        self.muon = Muon(matrices.values())
        rest = [p for n, p in named.items() if n not in matrices]
        self.adam = torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.rng = np.random.default_rng([0, recipe.seed])
        self.seen: list[Tensor] = []  # what the projector gave last
        self.model.model.multi_modal_projector.register_forward_hook(lambda _, __, out: self.seen.append(out))
        self.log: list[dict[str, float]] = []

    @property
    def most_steps(self) -> int:
        """Steps of the recipe."""
        return self.recipe.steps

    def advance(self) -> bool:
        """One optimiser step; False when the recipe is done."""
        recipe, done = self.recipe, self.total / self.recipe.steps
        rate = min(1.0, (self.total + 1) / 50) * min(1.0, (1 - done) / recipe.decay)
        losses = self._losses(batch(self.rng, recipe.rows, recipe.asked))
        naming = recipe.naming if done < recipe.named else 0.0
        (losses["caption"] + losses["answer"] + naming * losses["naming"]).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step(recipe.lr * rate)
        for group in self.adam.param_groups:
            group["lr"] = recipe.adam_lr * rate
        self.adam.step()
        self.adam.zero_grad()
        self.total += 1
        if self.total % EVERY == 0:
            self.log.append({"step": self.total} | {k: round(float(v.detach()), 4) for k, v in losses.items()})
        return self.total < recipe.steps

    def _losses(self, b: Batch) -> dict[str, Tensor]:
        """Mean cross entropies: of a caption's tokens, of answers, of the cells' words."""
        self.seen.clear()
        logits = self.model(input_ids=b.tokens, pixel_values=b.pixels).logits
        loss = F.cross_entropy(logits.transpose(1, 2), b.targets, ignore_index=UNTRAINED, reduction="none")
        trained = b.targets != UNTRAINED
        asked = trained & b.answers[:, None]
        said = trained & ~b.answers[:, None]
        parts = self.seen[-1]
        words = F.rms_norm(parts, parts.shape[-1:]) @ self.model.lm_head.weight.T
        naming = F.cross_entropy(words.flatten(0, -2), b.words.flatten())
        return {"caption": loss[said].mean(), "answer": loss[asked].mean(), "naming": naming}


def train_all(folder: Path, progress: Callable[[int, Training], None] | None = None, seed: int = 0) -> Path:
    """Train into `folder`/phase-1 unless it is there; a few minutes, so a stopped training begins again.

    progress: called with 0 and the training every 100 steps. Gives the folder of the model.
    """
    part, started = folder / "phase-1", time.process_time()
    if (part / "training.json").exists():
        return part
    run, going = Training(replace(PHASES[0], seed=seed)), True
    while going:
        going = run.advance()
        if progress and run.total % EVERY == 0:
            progress(0, run)
    export(run.model, part)
    record = {"recipe": asdict(run.recipe), "steps": run.total, "log": run.log}
    record |= {"cpu_seconds": round(time.process_time() - started), "torch": torch.__version__}
    (part / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return part


def export(model: Any, folder: Path) -> None:
    """Write bf16 safetensors, config.json, the tokenizer and the processor."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.to(torch.bfloat16).save_pretrained(folder)
    write_processor(folder, context=model.config.text_config.max_position_embeddings)
