"""Does the simulator say, token by token, what kvpress said? Runs here, on what kvpress_pair.py wrote.

    python tests/consumers/simulator_logits.py workbench/reference_models/llama pair logits.npz

The same prompts and forced tokens, read in full; the window stays where the prompt ends. Prints the largest difference of
logits from kvpress's, and beside it that of the same list with a window that moves on, which must be larger.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import workbench as wb
from workbench.policies.kvpress import fixed_window
from workbench.policies.scheme import Scheme
from workbench.policies.setting import Setting
from workbench.policies.streaming import streaming
from workbench.simulation.cases import Batch, Case
from workbench.simulation.decoding import decode
from workbench.simulation.reading_prompts import read_whole
from workbench.versions import versions

TOLERANCE = 1e-4


def logits_of(model, scores, prompt: np.ndarray, forced: np.ndarray, scheme: Callable[..., Scheme]) -> np.ndarray:
    """Logits after each forced token, [steps, batch, vocabulary]; `scores`: the pair, 1 = full."""
    n, steps = prompt.shape[1], forced.shape[1]
    rows = np.concatenate([prompt, forced, forced[:, -1:]], 1).tolist()  # the last one is never fed
    batch = Batch.of([Case(tuple(row), n, steps) for row in rows], model.device)
    setting = Setting(tuple(model.seam.layers), model.n_heads, model.n_kv_heads, n, 1.0)
    full = {layer: scores.values[layer] == 1 for layer in model.seam.layers}
    sink, recent = (int(scores.parameters[name]) for name in ("sink_size", "recent_size"))
    logits, _ = decode(model, read_whole(model, batch)[0], scheme(setting, full, sink, recent))
    return logits.float().numpy().swapaxes(0, 1)


@torch.no_grad()
def compare(place: str, pair: str | Path, file: str | Path) -> dict[str, float]:
    """Largest differences of logits over all steps after the first forced token, and the largest logit."""
    model, held = wb.load(place, "float32", "cpu"), np.load(file)
    scores, theirs = wb.read_scores(pair, model=model), held["logits"][1:]  # the first are the prefill's own
    fixed, moving = (logits_of(model, scores, held["prompt"], held["forced"], f) for f in (fixed_window, streaming))
    found = {
        "difference": float(np.abs(theirs - fixed).max()),
        "difference_if_the_window_moved": float(np.abs(theirs - moving).max()),
        "largest_logit": float(np.abs(theirs).max()),
    }
    assert found["difference"] <= TOLERANCE < found["difference_if_the_window_moved"], found
    return found


if __name__ == "__main__":
    print(json.dumps({**versions(), **compare(*sys.argv[1:])}))
