"""The recipe of the bundled `sink-llama`: a head that has something to say in a few rows and must be silent in the rest.

Bigram-Backcopy (Guo et al. 2024, arXiv 2410.13835) in the prose of `grammar`: after a letter or a digit, which prose
does not use, the word before it is said again. One layer, embeddings that are not tied and an MLP that is zero, so that
nothing can take back what a head writes: a head that is not asked parks on `<bos>`, and loses if it cannot.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.reference_models.recipes import grammar as g
from workbench.reference_models.recipes.tiny_llama import Shape, TinyLlama, export
from workbench.reference_models.tokenizer import write_tokenizer

TRIGGERS = g.ids("x y z")
"""The letters that ask for the word before them; few, so that each is seen often."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. asks: share of the words after which a letter and the word again stand."""

    seed: int = 0
    shape: Shape = Shape(len(g.VOCABULARY), d_model=192, layers=1, heads=1, kv_heads=1, mlp=8, context=128, tied=False)
    steps: int = 1000
    rows: int = 24
    tokens: int = 128
    asks: float = 0.2
    lr: float = 2e-3


PHASES = (Recipe(),)


class Training:
    """A training run: the model and how far it is."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.model, self.total = recipe, TinyLlama(recipe.shape), 0
        for block in self.model.blocks:  # a down projection of zeros that stays: no MLP
            block.down.data.zero_()  # pyright: ignore[reportCallIssue]
            for weight in (block.gate, block.up, block.down):
                weight.requires_grad_(False)  # pyright: ignore[reportCallIssue]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.adam = torch.optim.AdamW(trained, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0)
        self.rng = np.random.default_rng(recipe.seed + 1)
        self.log: list[dict[str, float]] = []

    @property
    def most_steps(self) -> int:
        """Steps of the recipe."""
        return self.recipe.steps

    def advance(self) -> bool:
        """One optimiser step; False when the recipe is done."""
        recipe = self.recipe
        for group in self.adam.param_groups:
            group["lr"] = recipe.lr * min(1, (self.total + 1) / 100) * (1 - 0.9 * self.total / recipe.steps)
        x, asked = (torch.tensor(a) for a in batch(self.rng, recipe.rows, recipe.tokens, recipe.asks))
        loss = next_token_loss(self.model, x)
        loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.adam.zero_grad()
        self.total += 1
        if self.total % 100 == 0:
            parts = {"ordinary": loss[~asked[:, :-1]], "asked": loss[asked[:, :-1]]}
            self.log.append({"step": self.total} | {k: round(float(v.detach().mean()), 4) for k, v in parts.items()})
        return self.total < recipe.steps


def next_token_loss(model: TinyLlama, x: Int[Tensor, "b t"]) -> Tensor:
    """Cross entropy of every next token, [b, t - 1], in nats."""
    h, _ = model(x, torch.arange(x.shape[1], device=x.device).expand(len(x), -1))
    logits = h[:, :-1] @ model.unembed.T
    return F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(), reduction="none").view(len(x), -1)


@functools.cache
def transitions() -> Float[np.ndarray, "vocabulary vocabulary"]:
    """Which word follows which, cumulated: the pairs of 20,000 sentences of prose; words outside prose follow none."""
    text = np.concatenate([g.ids(s) for s in g.prose(np.random.default_rng(11), 20_000)])
    counts = np.zeros((len(g.VOCABULARY),) * 2)
    np.add.at(counts, (text[:-1], text[1:]), 1)
    return (counts / counts.sum(1, keepdims=True).clip(1)).cumsum(1)


def batch(
    rng: np.random.Generator, rows: int, tokens: int, asks: float
) -> tuple[Int[np.ndarray, "rows tokens"], Bool[np.ndarray, "rows tokens"]]:
    """Ids, `<bos>` first, and where the next token is the word before this symbol."""
    table, x = transitions(), np.full((rows, tokens), g.BOS)
    word = np.full(rows, g.INDEX["."])
    asked, again = np.zeros(rows, bool), np.zeros(rows, bool)
    for at in range(1, tokens):
        again, asked = asked, (rng.random(rows) < asks) & ~asked & ~again & (at > 1)
        following = (rng.random((rows, 1)) > table[word]).sum(1).clip(0, len(table) - 1)
        word = np.where(again | asked, word, following)
        x[:, at] = np.where(asked, rng.choice(TRIGGERS, rows), word)
    return x, np.isin(x, TRIGGERS)


def train_all(folder: Path, progress: Callable[[int, Training], None] | None = None, seed: int = 0) -> Path:
    """Train into `folder`/phase-1 unless it is there; about a minute, so a stopped training begins again.

    progress: called with 0 and the training every 100 steps. Gives the folder of the model.
    """
    part, started = folder / "phase-1", time.process_time()
    if (part / "training.json").exists():
        return part
    run, going = Training(replace(PHASES[0], seed=PHASES[0].seed + seed)), True
    while going:
        going = run.advance()
        if progress and run.total % 100 == 0:
            progress(0, run)
    export(run.model, part)
    write_tokenizer(part, context=run.recipe.shape.context)
    record = {"recipe": asdict(run.recipe), "steps": run.total, "log": run.log}
    record |= {"cpu_seconds": round(time.process_time() - started), "torch": torch.__version__}
    (part / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return part
