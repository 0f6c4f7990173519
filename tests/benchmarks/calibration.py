"""Time of calibrating each head alone against two peers. Run: python tests/benchmarks/calibration.py

Peers: a full forward per head in the same batches, in one process; and the authors' way, a full forward per head and
sample on whole eager patterns (starting a process for each, as they do, is not counted).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import measure
import numpy as np
import torch
from workbench_analyses.calibrate_heads import CalibrateHeads
from workbench_analyses.calibration.alone import each_alone, rule_of

import workbench as wb
from workbench.choosing import choice_rows, choose, log_probs, margins
from workbench.sinks import prompt_sinks
from workbench.tasks.assembling import Assembler
from workbench.tasks.choices import ChoiceSample, choice_samples

CASES = (("planted-calibrate", 32), ("llama", 8))
TARGETS = {"batched": 1.4, "one by one, eager": 5.0}
CLOSE = 1e-3
"""Nats by which margins of the ways may differ: their batches round differently."""


def batched(model: Any, samples: Sequence[ChoiceSample], config: CalibrateHeads, sinks: torch.Tensor) -> np.ndarray:
    """Every head on every sample, a full forward each, in batches of the same size."""
    width, out = sinks.shape[-1], np.zeros((model.n_layers, model.n_heads, len(samples)))
    base = choose(model, samples).numpy()
    for layer in range(model.n_layers):
        for head in range(model.n_heads):
            for start in range(0, len(samples), config.batch):
                part = samples[start : start + config.batch]
                edits = [
                    _edit(config, layer, head, sinks[layer, start + i, head], width - max(len(s.prompt) for s in part))
                    for i, s in enumerate(part)
                ]
                rows = choice_rows(part)
                got = model.forward(
                    rows.tokens, rows.mask, keep=rows.kept, decode_from=rows.decode_from, edits=edits
                ).logits
                out[layer, head, start : start + len(part)] = margins(log_probs(got, rows), rows.answers)
    return out - base


def _edit(config: CalibrateHeads, layer: int, head: int, sinks: torch.Tensor, cut: int) -> Any:
    keys = (sinks.nonzero().flatten() - cut).tolist()
    return (
        wb.calibrate([(layer, head)], config.beta, keys=keys, exempt=config.exempt)
        if keys
        else wb.scale([(layer, head)], 1.0)
    )


def one_by_one(model: Any, samples: Sequence[ChoiceSample], config: CalibrateHeads, sinks: torch.Tensor) -> np.ndarray:
    """Every head on every sample alone, the whole pattern rewritten in a hook of the eager bridge."""
    width, out = sinks.shape[-1], np.zeros((model.n_layers, model.n_heads, len(samples)))
    for i, sample in enumerate(samples):
        tokens, answers = torch.tensor([sample.prompt]), torch.tensor([sample.answer])
        choices = torch.tensor([c[0] for c in sample.choices])

        def margin(hooks: list[Any], tokens: Any = tokens, choices: Any = choices, answers: Any = answers) -> float:
            logits = model.bridge.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]
            return float(margins(logits.float().log_softmax(-1)[:, choices], answers))

        base = margin([])
        for layer in range(model.n_layers):
            for head in range(model.n_heads):
                flags = sinks[layer, i, head, width - len(sample.prompt) :]
                hook = (f"blocks.{layer}.attn.hook_pattern", _rewrite(head, flags, config))
                out[layer, head, i] = margin([hook]) - base
    return out


def _rewrite(head: int, flags: torch.Tensor, config: CalibrateHeads) -> Callable[..., Any]:
    """ACT on one head of a whole pattern."""
    others = ~flags
    others[list(config.exempt)] = False

    def hook(pattern: torch.Tensor, hook: Any) -> torch.Tensor:
        p = pattern[:, head].clone()
        receiving = (p * others).sum(-1, keepdim=True)
        freed = (1 - config.beta) * (p * flags).sum(-1, keepdim=True)
        new = p * torch.where(flags, config.beta, 1.0) + p * others * freed / receiving.clamp_min(1e-38)
        pattern[:, head] = torch.where(receiving > 0, new, p)
        return pattern

    return hook


def main() -> None:
    """Equal changes first, then the times; prints a line each and keeps them."""
    before, figures, path = measure.load(), [], None
    for name, n in CASES:
        ours_model, peer_model = wb.load(name), wb.load(name)
        config = CalibrateHeads(model=name)
        samples = choice_samples("needle-choice", Assembler(ours_model.tokenizer), n, 0)
        sinks = prompt_sinks(ours_model, [s.prompt for s in samples], rule_of(config))
        layers = tuple(range(ours_model.n_layers))

        def ours(model: Any = ours_model, c: Any = config, s: Any = samples, ls: Any = layers) -> np.ndarray:
            return each_alone(c, model, ls, s)["change"]

        for kind, way, model in (
            ("batched", batched, ours_model),
            ("one by one, eager", one_by_one, peer_model),
        ):

            def peer(way: Any = way, m: Any = model, s: Any = samples, c: Any = config, k: Any = sinks) -> np.ndarray:
                with torch.no_grad():
                    return way(m, s, c, k)

            difference = float(np.abs(peer() - ours()).max())
            assert difference <= CLOSE, f"{name}, {kind}: changes differ by {difference}"
            figure = measure.paired(peer, ours, 5)
            met = figure["ratio"]["median"] >= TARGETS[kind]
            figures.append(
                {"model": name, "peer": kind, "samples": n, "eligible": float(sinks.any(-1).float().mean()),
                 "largest_difference": difference, **figure, "target": TARGETS[kind], "met": met}
            )  # fmt: skip
            path = measure.keep(
                "calibration", figures, before
            )  # as they come: a run that is stopped leaves those it had
            print(
                f"{name:18} {kind:18} {figure['ratio']['median']:.2f}×, target {TARGETS[kind]}: {'met' if met else 'MISSED'}",
                flush=True,
            )
    print(path)


if __name__ == "__main__":
    main()
