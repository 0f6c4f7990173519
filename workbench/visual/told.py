"""Captions after their prompts, as one teacher-forced forward reads them: with the picture, without it, with a blank one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench import images
from workbench.errors import BadInput
from workbench.images import Prompt

LONGEST = 48
"""Tokens of a caption, at most, unless asked for."""
BLANK = 1e-6
"""A pixel of a blank picture: nothing, but not 0, from which Idefics tells that there is no picture."""


class Rows(NamedTuple):
    """One forward: ids, where they are (None: everywhere), what else is read, and the row that predicts each token."""

    tokens: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"] | None
    inputs: dict[str, Tensor]
    predicting: Int[Tensor, "b t"]


@dataclass(frozen=True, eq=False)
class Told:
    """Prompts with pictures, equally long and unpadded, and what was said after each.

    said: ids of the captions; what stands behind a caption's end is not looked at. length: tokens of each caption, a
    stop token not counted. pictures: which columns of the prompts are parts of pictures, equally many in each row.
    Raises BadInput where shapes do not fit or a row has another number of parts.
    """

    prompt: Prompt
    said: Int[Tensor, "b t"]
    length: Int[Tensor, " b"]
    pictures: Bool[Tensor, "b n"]

    def __post_init__(self) -> None:
        """Check that everything fits."""
        rows = len(self.prompt.tokens)
        if len(self.said) != rows or self.length.shape != (rows,) or int(self.length.max()) > self.said.shape[1]:
            raise BadInput(f"{rows} prompts, captions {list(self.said.shape)}, lengths {list(self.length.shape)}")
        parts = self.pictures.sum(1)
        if not bool((parts == parts[0]).all()) or not int(parts[0]):
            raise BadInput(
                f"the prompts hold {', '.join(str(int(n)) for n in parts.unique())} parts of pictures: give prompts with "
                "equally many, at least one"
            )

    @property
    def steps(self) -> Bool[Tensor, "b t"]:
        """Which tokens belong to their captions."""
        return torch.arange(self.said.shape[1], device=self.length.device) < self.length[:, None]

    @property
    def columns(self) -> list[list[int]]:
        """Where the parts of each row's picture stand, in order."""
        return [row.nonzero().flatten().tolist() for row in self.pictures]

    def seen(self) -> Rows:
        """With the picture."""
        return self._rows(self.prompt.tokens, self.prompt.inputs)

    def unseen(self) -> Rows:
        """Without it: its placeholders are taken out of the text, what stands around them stays."""
        tokens = self.prompt.tokens
        return self._rows(tokens[~self.pictures].view(len(tokens), -1), {})

    def blanked(self) -> Rows:
        """With a blank picture: every pixel at the middle of the processor's scale (its mean colour)."""
        blank = {
            k: (v != 0).to(v) * BLANK if k.startswith("pixel_values") else v for k, v in self.prompt.inputs.items()
        }
        return self._rows(self.prompt.tokens, blank)

    @property
    def one_a_row(self) -> bool:
        """Whether what the model reads of pictures has a row for each prompt (Qwen-VL joins the patches of all)."""
        return one_a_row(self.prompt)

    def some(self, rows: list[int]) -> Told:
        """Some of the rows. Raises BadInput where what the model reads is not one a row."""
        if rows == list(range(len(self.said))):
            return self
        if not self.one_a_row:
            raise BadInput("what the model reads of pictures is not one a row: give fewer captions at a time")
        at = torch.tensor(rows, device=self.said.device)
        inputs = {k: v[at] for k, v in self.prompt.inputs.items()}
        return Told(Prompt(self.prompt.tokens[at], inputs), self.said[at], self.length[at], self.pictures[at])

    def _rows(self, prompt: Int[Tensor, "b n"], inputs: dict[str, Tensor]) -> Rows:
        n, steps = prompt.shape[1], self.steps
        tokens, longer = images.continued(Prompt(prompt, inputs), self.said)
        mask = torch.cat([torch.ones_like(prompt, dtype=torch.bool), steps], 1)
        last = (self.length - 1).clamp_min(0)[:, None]
        predicting = n - 1 + torch.arange(steps.shape[1], device=steps.device)[None].minimum(last)
        return Rows(tokens, None if bool(mask.all()) else mask, longer, predicting)


def one_a_row(prompt: Prompt) -> bool:
    """Whether what the model reads of pictures has a row for each prompt."""
    return all(len(v) == len(prompt.tokens) for v in prompt.inputs.values())


def tell(model: Any, prompt: Prompt, most: int = LONGEST, edits: Any = None) -> Told:
    """The greedy captions of prompts with pictures. most: tokens, at most. edits: see `Model.generate`.

    Raises BadInput for a prompt without a picture.
    """
    said, ends = model.generate(prompt.tokens, most, edits=edits, inputs=prompt.inputs), set(model.stop_tokens)
    length = torch.tensor([next((i for i, t in enumerate(row) if t in ends), len(row)) for row in said.tolist()])
    said = said[:, : max(1, int(length.max()))]
    return Told(prompt, said, length.to(said.device), images.positions(model, prompt.tokens))
