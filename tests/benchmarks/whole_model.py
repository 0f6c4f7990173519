"""observe on a whole model against eager forwards that keep every pattern. Run: python tests/benchmarks/whole_model.py [long]

A random Llama in the shape of a 1B model (width 2048, 32 heads × 64, 8 kv heads, MLP 8192), but with 2 of its 16 layers
and a small vocabulary: the whole of it takes minutes a forward at 8k tokens on two cores. Peers at 2k, ours also at 8k;
`long` takes all 16 layers. First asserts that received attention equals that of the patterns.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import torch
from torch import Tensor
from transformers import AutoConfig
from workbench_kernels.timing import paired, seconds

import workbench as wb

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import tiny_models

PEERS, OURS = 2048, 8192


def shape(layers: int) -> Any:
    """The config."""
    return AutoConfig.for_model(
        "llama", vocab_size=97, hidden_size=2048, intermediate_size=8192, num_hidden_layers=layers, head_dim=64,
        num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=OURS, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip


def received(patterns: list[Tensor]) -> Tensor:
    """Mean attention a key gets from the queries that see it, of [batch, head, query, key] per layer."""
    n = patterns[0].shape[-1]
    return torch.stack([p.sum(2) / torch.arange(n, 0, -1) for p in patterns])


def peers(model: wb.Model, plain: Any, tokens: Tensor) -> dict[str, Callable[[], Any]]:
    """What gives the same from whole patterns, and a forward that gives nothing."""
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(model.n_layers)]

    def cached() -> Tensor:
        _, cache = model.bridge.run_with_cache(tokens, names_filter=lambda name: name in names)
        return received([cache[name] for name in names])

    return {
        "HF eager, output_attentions": lambda: received(plain(tokens, output_attentions=True).attentions),
        "bridge, run_with_cache": cached,
        "no statistics": lambda: model(tokens),
    }


@torch.no_grad()
def main() -> None:
    """Figures, kept as they come."""
    before, figures = measure.load(), []
    layers = 16 if "long" in sys.argv else 2
    with tempfile.TemporaryDirectory() as folder:
        tiny_models.save("llama", Path(folder), of=shape(layers))
        model, plain = wb.load(folder), tiny_models.hugging_face(folder)
    tokens, long = (torch.randint(3, 97, (1, n)) for n in (PEERS, OURS))
    probes = [wb.probes.received()]
    for name, peer in peers(model, plain, tokens).items():
        if name != "no statistics":
            torch.testing.assert_close(wb.observe(model, tokens, probes)["received"], peer(), atol=1e-5, rtol=1e-3)
        figure = paired(peer, lambda: wb.observe(model, tokens, probes))
        figures.append({"layers": layers, "tokens": PEERS, "work": "observe received", "peer": name, **figure})
        measure.keep("whole_model", figures, before)
        print(name, figure["ratio"], flush=True)
    took = seconds(lambda: wb.observe(model, long, probes))
    figures.append({"layers": layers, "tokens": OURS, "work": "observe received", "ours_seconds": took})
    print(OURS, took, measure.keep("whole_model", figures, before))


if __name__ == "__main__":
    main()
