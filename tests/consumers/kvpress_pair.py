"""Does kvpress do what an exported pair says? Runs in an environment of its own, without the workbench.

    python3 -m venv kvenv && kvenv/bin/pip install -r tests/consumers/kvpress-requirements.txt
    workbench export RUN format=kvpress sparsity=.5 sink_size=4 recent_size=16 out=pair
    workbench export RUN format=lu-kv threshold=.1 sink_size=4 recent_size=16 context=200 out=curves
    kvenv/bin/python tests/consumers/kvpress_pair.py workbench/reference_models/llama pair curves logits.npz

Checks that the press streams exactly the heads that the list streams, that its logits, step by step, are those of
attention under a mask written out by hand, and that LUKVPress prunes as many entries as the curves say. Writes tokens
and logits, [steps, batch, vocabulary], for comparison elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from kvpress import KnormPress, LUKVPress
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PROMPT, STEPS, TOLERANCE = 200, 8, 1e-4


def loader(folder: Path):
    """The module that the exporter wrote beside the pair."""
    spec = importlib.util.spec_from_file_location("kvpress_loader", folder / "kvpress_loader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_hand(streaming: torch.Tensor, sink: int, recent: int):
    """Attention in which streaming kv heads, [layers, kv heads], lose the middle of the prompt after the prefill."""

    def attend(module, q, k, v, mask, scaling=None, **_):
        group = q.shape[1] // k.shape[1]
        k, v, n = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), k.shape[2]
        rows = torch.arange(n - q.shape[2], n)[:, None]
        seen = (torch.arange(n) <= rows).repeat(q.shape[1], 1, 1)
        if q.shape[2] == 1:
            seen[streaming[module.layer_idx].repeat_interleave(group), :, sink : PROMPT - recent] = False
        weights = (q @ k.transpose(2, 3) * scaling).masked_fill(~seen, -torch.inf).softmax(-1)
        return (weights @ v).transpose(1, 2), None

    return attend


@torch.no_grad()
def decode(model, prompt, forced, press=None):
    """Logits after the prompt and after each forced token, [steps + 1, batch, vocabulary]."""
    with press(model) if press is not None else contextlib.nullcontext():
        out = model(prompt, use_cache=True)
        logits = [out.logits[:, -1]]
        for step in range(forced.shape[1]):
            out = model(forced[:, step : step + 1], past_key_values=out.past_key_values, use_cache=True)
            logits.append(out.logits[:, -1])
    return torch.stack(logits)


def check_pair(model, folder: Path, prompt, forced) -> tuple[dict, np.ndarray]:
    """The press against the list and against the mask by hand."""
    pattern = np.loadtxt(folder / "full_attention_heads.tsv", delimiter="\t", ndmin=2)
    config = json.loads((folder / "config.json").read_text())
    press = loader(folder).press()
    pressed, full = decode(model, prompt, forced, press), decode(model, prompt, forced)
    ALL_ATTENTION_FUNCTIONS["by_hand"] = by_hand(torch.tensor(pattern == 0), config["sink_size"], config["recent_size"])
    model.set_attn_implementation("by_hand")
    ours = decode(model, prompt, forced)
    model.set_attn_implementation("sdpa")
    found = {
        "mask_equals_list": bool((press.streaming_mask.numpy() == (pattern == 0)).all()),
        "streaming": int((pattern == 0).sum()),
        "largest_logit": float(ours.abs().max()),
        "difference": float((pressed - ours).abs().max()),
        "difference_to_full_cache": float((full - ours).abs().max()),
    }
    assert found["mask_equals_list"] and found["difference"] <= TOLERANCE < found["difference_to_full_cache"], found
    return found, pressed.numpy()


@torch.no_grad()
def check_curves(model, folder: Path, prompt) -> dict:
    """Entries that LUKVPress prunes in each kv head, against the curves."""
    curves = np.load(folder / "lukv_curves.npy")
    worst = 0.0
    for percent in (10, 50, 90):
        press = LUKVPress(press=KnormPress(), compression_ratio=percent / 100)
        press._budget_curves = curves
        with press(model):
            model(prompt, use_cache=True)
            for layer, wanted in zip(model.model.layers, curves[percent - 1] * PROMPT, strict=True):
                gone = layer.self_attn.masked_key_indices  # (batch, head, key) of what is gone; None: nothing
                heads = torch.tensor([], dtype=torch.long) if gone is None else gone[1][gone[0] == 0]
                pruned = torch.bincount(heads, minlength=len(wanted)).numpy()
                worst = max(worst, float(np.abs(pruned - wanted).max()))
    assert worst <= 1, worst
    return {"entries_off": worst}


def main(place: str, pair: str, curves: str, out: str) -> None:
    """Check, print the figures, write tokens and logits."""
    model = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, attn_implementation="sdpa")
    draw = torch.Generator().manual_seed(0)
    prompt, forced = (torch.randint(5, model.config.vocab_size, (2, n), generator=draw) for n in (PROMPT, STEPS))
    found, logits = check_pair(model.eval(), Path(pair), prompt, forced)
    np.savez(out, prompt=prompt.numpy(), forced=forced.numpy(), logits=logits)
    print(json.dumps({"transformers": transformers.__version__, **found, **check_curves(model, Path(curves), prompt)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
