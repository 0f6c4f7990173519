"""Time of the causal contrast of all heads against two peers. Run: python tests/benchmarks/visual.py

Peers: one teacher-forced forward of picture and fixed caption for each head and caption at batch 1, the head's output
zeroed by a hook of the plain bridge (start-up excluded); and the same batches as ours, but every row a whole forward,
picture and all. Words and captions are made before the clock starts; effects are equal or the script stops.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import measure
import numpy as np
import torch
from torch import Tensor

import workbench as wb
from workbench import images, visual
from workbench.tasks.scenes import scenes
from workbench.tasks.wording import describing

SCENES, REPEATS = 16, 5
TARGETS = {"one by one": 10.0, "equal batches": None}
CLOSE = 1e-5
"""Probability by which effects of the ways may differ: their batches round differently."""


def told_scenes(model: Any, n: int) -> tuple[visual.Told, list[visual.Word]]:
    """Captions of counterfactual scenes and their words."""
    shown = scenes("score", n, counterfactual=True)
    told = visual.tell(model, images.prompt(model, [describing(model)] * n, [s.image for s in shown]))
    ids = [row[:k] for row, k in zip(told.said.tolist(), told.length.tolist(), strict=True)]
    every = [visual.spoken(model.tokenizer, row, s.objects, row=i) for i, (row, s) in enumerate(zip(ids, shown))]
    return told, [w for words in every for w in words]


def one_by_one(model: Any, told: visual.Told, words: Sequence[visual.Word]) -> np.ndarray:
    """A forward of the plain bridge for every caption and head, batch 1, nothing shared."""
    out = np.zeros((len(words), model.n_layers, model.n_heads))
    first = told.prompt.tokens.shape[1] - 1
    for row in range(len(told.said)):
        mine = [i for i, w in enumerate(words) if w.row == row]
        if not mine:
            continue
        one = told.some([row]).seen()
        text = one.tokens[:, : first + 1 + int(told.length[row])]
        columns = torch.tensor([first + words[i].step for i in mine])
        said = told.said[row, [words[i].step for i in mine]]

        def probabilities(
            hooks: list[Any], x: Tensor = text, inputs: Any = one.inputs, at: Any = (columns, said)
        ) -> Any:
            logits = model.bridge.run_with_hooks(x, fwd_hooks=hooks, **inputs)[0]
            return logits[at[0]].softmax(-1).gather(1, at[1][:, None])[:, 0].double().numpy()

        base = probabilities([])
        for layer in range(model.n_layers):
            for head in range(model.n_heads):
                out[mine, layer, head] = base - probabilities([(f"blocks.{layer}.attn.hook_z", _zero(head))])
    return out


def _zero(head: int) -> Any:
    def hook(z: Tensor, hook: Any) -> Tensor:
        z = z.clone()
        z[:, :, head] = 0
        return z

    return hook


def equal_batches(model: Any, told: visual.Told, words: Sequence[visual.Word], batch: int = 256) -> np.ndarray:
    """Heads and captions in batches as large as ours, each row a whole forward with its picture."""
    rows, first = told.seen(), told.prompt.tokens.shape[1] - 1
    places = torch.tensor([[w.row, first + w.step, int(told.said[w.row, w.step])] for w in words])
    out = np.zeros((len(words), model.n_layers, model.n_heads))

    def probabilities(heads: Sequence[tuple[int, int]]) -> Tensor:
        n = max(1, len(heads))
        many = {k: v.repeat(n, *[1] * (v.dim() - 1)) for k, v in rows.inputs.items()}
        mask = None if rows.mask is None else rows.mask.repeat(n, 1)
        edits = [wb.mask([h]) for h in heads for _ in range(len(rows.tokens))] or None
        logits = model.forward(rows.tokens.repeat(n, 1), mask, inputs=many, edits=edits).logits.unflatten(0, (n, -1))
        row, column, token = places.unbind(1)
        return logits[:, row, column].softmax(-1).gather(-1, token.expand(n, -1)[..., None])[..., 0].double()

    base, every = probabilities([])[0], [(i, j) for i in range(model.n_layers) for j in range(model.n_heads)]
    at_once = max(1, batch // len(rows.tokens))
    for start in range(0, len(every), at_once):
        part = every[start : start + at_once]
        for (layer, head), p in zip(part, probabilities(part), strict=True):
            out[:, layer, head] = (base - p).numpy()
    return out


@torch.no_grad()
def main(n: int = SCENES, repeats: int = REPEATS) -> None:
    """Equal effects first, then the times; prints a line each and keeps them (unless fewer scenes were asked for)."""
    before, figures = measure.load(), []
    model, peer_model = wb.load("llava"), wb.load("llava")
    told, words = told_scenes(model, n)

    def ours() -> np.ndarray:
        return visual.word_effects(model, told, words)

    for kind, way, of in (("one by one", one_by_one, peer_model), ("equal batches", equal_batches, model)):

        def peer(way: Any = way, of: Any = of) -> np.ndarray:
            return way(of, told, words)

        difference = float(np.abs(peer() - ours()).max())
        assert difference <= CLOSE, f"{kind}: effects differ by {difference}"
        figure, target = measure.paired(peer, ours, repeats), TARGETS[kind]
        met = None if target is None else figure["ratio"]["median"] >= target
        figures.append(
            {"model": "llava", "peer": kind, "captions": n, "words": len(words), "heads": model.n_layers * model.n_heads,
             "largest_difference": difference, **figure, "target": target, "met": met}
        )  # fmt: skip
        if n >= SCENES:
            print(measure.keep("visual", figures, before))  # as they come: a run that is stopped leaves those it had
        verdict = {None: "no target", True: "met", False: "MISSED"}[met]
        print(f"{kind:14} {figure['ratio']['median']:.2f}×, {verdict} (goal {target})", flush=True)


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:]))
