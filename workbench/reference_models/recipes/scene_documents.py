"""What the bundled `llava` reads: a scene and its caption, or a scene and several questions with their answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.tasks.scene_objects import CELLS, OBJECTS
from workbench.tasks.scenes import ASK, DESCRIBE, MIDDLE, STEPS, Scene, scene

VOCABULARY = (
    "<pad>", "<bos>", "<eos>", "<unk>", "<image>",
    *"is there a an in the image ? yes no describe : photo of , . and what picture".split(), *OBJECTS,
)  # fmt: skip
INDEX = {word: i for i, word in enumerate(VOCABULARY)}
PAD, BOS, EOS, UNK, IMAGE = range(5)
QUESTIONS = 4
"""Questions in a row; about different objects, half of them about objects that are there."""
UNTRAINED = -100


@dataclass(frozen=True)
class Batch:
    """tokens: ids, padded on the right. targets: the next ids of captions and answers, elsewhere -100.

    answers: which rows are questions. words: the id of the object in each cell, `<pad>` where it is empty.
    """

    tokens: Int[Tensor, "b n"]
    targets: Int[Tensor, "b n"]
    answers: Tensor
    pixels: Float[Tensor, "b 3 y x"]
    words: Int[Tensor, "b cells"]


def ids(text: str) -> list[int]:
    """Ids of a text whose words and marks are parted by spaces."""
    return [INDEX[word] for word in text.split()]


def batch(rng: np.random.Generator, rows: int, asked: float = 1.0) -> Batch:
    """Captions in even rows, questions in odd ones.

    asked: chance that a question may be about the absent partner of what is there.
    """
    shown = [scene(rng) for _ in range(rows)]
    written = [_asked(rng, s, asked) if i % 2 else _captioned(s) for i, s in enumerate(shown)]
    width = max(len(x) for x, _ in written)
    tokens = np.full((rows, width), PAD)
    targets = np.full((rows, width), UNTRAINED)
    words = np.full((rows, CELLS), PAD)
    for i, (x, trained) in enumerate(written):
        tokens[i, : len(x)] = x
        targets[i, : len(x) - 1] = np.where(trained[1:], x[1:], UNTRAINED)
        words[i, list(shown[i].cells)] = [INDEX[word] for word in shown[i].objects]
    pixels = pixel_values(np.stack([s.pixels for s in shown]))
    odd = torch.arange(rows) % 2 == 1
    return Batch(torch.tensor(tokens), torch.tensor(targets), odd, pixels, torch.tensor(words))


def pixel_values(pixels: np.ndarray) -> Float[Tensor, "b 3 y x"]:
    """Pictures in units of the noise, what the model's processor makes of them."""
    return torch.tensor((pixels.transpose(0, 3, 1, 2) - MIDDLE) / STEPS, dtype=torch.float32)


def _captioned(s: Scene) -> tuple[list[int], list[bool]]:
    start = [BOS, *[IMAGE] * CELLS, *ids(DESCRIBE)]
    said = [*ids(s.caption), EOS]
    return start + said, [False] * len(start) + [True] * len(said)


def _asked(rng: np.random.Generator, s: Scene, asked: float) -> tuple[list[int], list[bool]]:
    text, trained = [BOS, *[IMAGE] * CELLS], [False] * (1 + CELLS)
    there = [str(w) for w in rng.permutation(s.objects)]
    spared = {w for w in s.missing if rng.random() > asked}
    absent = [str(w) for w in rng.permutation([w for w in OBJECTS if w not in {*s.objects, *spared}])]
    for _ in range(QUESTIONS):
        yes = bool(there) and (rng.random() < 0.5 or not absent)
        question = ids(ASK.format((there if yes else absent).pop()))
        text += [*question, INDEX["yes" if yes else "no"]]
        trained += [False] * len(question) + [True]
    return [*text, EOS], [*trained, True]
