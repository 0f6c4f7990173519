"""What a planted circuit must be told from: random heads that write all over the stream, and random MLPs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from workbench.reference_models.planted.ioi_frame import LOUD, CircuitFrame

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SPREAD = 0.5 / LOUD
"""Of the entries of a decoy's queries and keys; scores are then of a few nats."""
MOVER_NORM = 2**0.5
"""What a mover writes: a one-hot, and its negative to the dimension that evens it out."""
SAMPLES, LENGTH = 16, 40
"""Random text on which decoys are measured."""


def _content(frame: CircuitFrame, weight: Tensor, draw: Any, spread: float) -> None:
    """Random entries for all dimensions but ballast and evener; `weight` is [.., width]."""
    import torch

    weight += torch.randn(weight.shape, generator=draw) * spread
    weight[..., frame.even : frame.at["ballast"].stop] = 0.0


def add_mlps(frame: CircuitFrame, seed: int) -> None:
    """Random MLPs that read everything and write, about as much as a mover does, where no head of a circuit reads."""
    import torch

    draw = torch.Generator().manual_seed(seed + 1)
    for layer in range(frame.layers):
        readers, writer = frame.mlp(layer)
        for reader in readers:
            _content(frame, reader, draw, SPREAD)
        rows = writer[frame.at["junk"]]
        rows += torch.randn(rows.shape, generator=draw) / rows.shape[0] ** 0.5 / 2
    frame.evened()


def add_decoys(
    frame: CircuitFrame, decoys: Collection[tuple[int, int]], wired: Collection[tuple[int, int]], norm: float, seed: int
) -> None:
    """Random heads, each of which writes `norm` times what a mover does, in the root mean square over random text.

    A decoy that shares keys and values with a wired head keeps these.
    """
    import torch

    draw = torch.Generator().manual_seed(seed + 2)
    kept = {(layer, frame.group(head)) for layer, head in wired}
    for place in decoys:
        head, group = frame.head(place), (place[0], frame.group(place[1]))
        _content(frame, head.q, draw, SPREAD)
        if group not in kept:
            kept.add(group)
            _content(frame, head.k, draw, SPREAD)
            _content(frame, head.v, draw, frame.dim**-0.5)
        _content(frame, head.o.T, draw, frame.width**-0.5)
    frame.evened()
    for layer in sorted({layer for layer, _ in decoys}):
        written = _written(frame, layer, draw)
        for _, head in (d for d in decoys if d[0] == layer):
            if written[head] > 0:
                frame.head((layer, head)).o.mul_(norm * MOVER_NORM / float(written[head]))


def _written(frame: CircuitFrame, layer: int, draw: Any) -> Float[Tensor, " heads"]:
    """Root mean square norm of what each head of a layer writes."""
    import torch

    tokens = torch.randint(4, frame.unembedding.shape[0], (SAMPLES, LENGTH), generator=draw)
    tokens[:, 0] = 1
    if frame.gpt2:
        part = frame.model.transformer.h[layer].attn.c_proj
    else:
        part = frame.model.model.layers[layer].self_attn.o_proj
    seen: list[Tensor] = []
    handle = part.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        frame.model(tokens)
    handle.remove()
    z = seen[0].reshape(SAMPLES * LENGTH, frame.heads, frame.dim)
    norms = [(z[:, i] @ frame.head((layer, i)).o.T).norm(dim=-1) for i in range(frame.heads)]
    return torch.stack(norms).square().mean(-1).sqrt()
