"""The `triton` backend on a GPU: equality, tiles, times. Run: python tests/benchmarks/triton_attention.py

Nothing of this was ever run on a GPU: the tiles in triton_call.tiles were chosen by what compiles without spills. On the
first machine with one, in this order:
1. python -m pytest tests/kernels/test_triton_cases.py   (the same cases as under the interpreter, compiled)
2. python tests/benchmarks/triton_tiles.py         (times of other tiles; put the best into triton_call.tiles and
   look at its spills with python -m workbench_kernels.triton_compile)
3. python tests/benchmarks/triton_attention.py     (writes results/triton_attention.json)
Every comparison first asserts that `triton` and `chunked` agree (up to CHECKED tokens), then times peer and ours in turn.
A ratio is peer / ours: the goals are ≥ 0.5 for statistics against SDPA (2×), ≥ 0.77 for edits of all heads,
≥ 0.91 for a tenth of them (1.10×), ≥ 0.87 for a decode step (1.15×).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import measure
import torch
import torch.nn.functional as F
from torch import Tensor
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, attend

DEVICE = "cuda"
HEADS, GROUPS, WIDTH = 32, 8, 128
LENGTHS = (8192, 32768, 131072)
CACHE, BATCHES = 32768, (1, 4, 16)
CHECKED = 8192
TOLERANCE = 2e-2
STATISTICS = ("none", "received", "rows", "received, rows", "entropy", "thumbnail", "masses of all rows")
EDITS = ("mask", "calibrate", "amplify", "window")


def inputs(batch: int, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random bfloat16 queries, keys and values, laid out as a model's projections give them."""

    def make(n: int, heads: int) -> Tensor:
        return torch.randn(batch, n, heads, WIDTH, device=DEVICE, dtype=torch.bfloat16).transpose(1, 2)

    return make(queries, HEADS), make(keys, GROUPS), make(keys, GROUPS)


def edits(kind: str, keys: int, share: float) -> HeadEdits | None:
    """An edit of a share of the heads."""
    chosen = (torch.arange(HEADS, device=DEVICE) < max(1, round(HEADS * share)))[None]
    span = torch.zeros(1, 1, keys, dtype=torch.long, device=DEVICE)
    if kind == "calibrate":  # ACT with four given sinks
        span[..., [0, 7, keys // 3, keys // 2]] = 1
        gain = torch.where(chosen, 0.4, 1.0)[..., None]
        return HeadEdits(key_class=span, class_gain=gain, freed=chosen.int())
    if kind == "amplify":  # a span of 576 image tokens
        span[..., 35 : 35 + 576] = 1
        gain = torch.where(chosen, 1.5, 1.0)[..., None]
        return HeadEdits(key_class=span, class_gain=gain, freed=2 * chosen.int())
    if kind == "mask":
        return HeadEdits(gain=torch.where(chosen, 0.0, 1.0))
    if kind == "window":
        return HeadEdits(window=torch.where(chosen, 1024, 0), sink=4)
    return None


def statistics(keys: int, kind: str) -> Reductions:
    """What is read of the pattern."""
    rows = torch.linspace(keys // 2, keys - 1, 64, device=DEVICE).long()[None]
    spans = torch.tensor([[[i * keys // 8, (i + 1) * keys // 8] for i in range(8)]], device=DEVICE)
    return {
        "received": Reductions(received=True),
        "rows": Reductions(rows=rows, top_k=8, spans=spans),
        "received, rows": Reductions(received=True, rows=rows, top_k=8, spans=spans),
        "entropy": Reductions(entropy=True),
        "thumbnail": Reductions(thumbnail=64),
        "masses of all rows": Reductions(spans=spans),
        "none": Reductions(),
    }[kind]


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The output alone."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)


def eager(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The N×N pattern, the output and the received attention."""
    n, group = q.shape[2], HEADS // GROUPS
    s = (q @ k.repeat_interleave(group, 1).mT) * WIDTH**-0.5
    hidden = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
    p = s.masked_fill_(hidden, float("-inf")).softmax(-1, torch.float32).to(q.dtype)
    return p @ v.repeat_interleave(group, 1), p.float().sum(2)


def flex(q: Tensor, k: Tensor, v: Tensor) -> Callable[[], Any]:
    """FlexAttention with its log-sum-exp, compiled."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = create_block_mask(lambda b, h, i, j: j <= i, None, None, q.shape[2], k.shape[2], device=DEVICE)
    compiled = torch.compile(flex_attention)
    return lambda: compiled(q, k, v, block_mask=mask, enable_gqa=True, return_lse=True)


def ours(q: Tensor, k: Tensor, v: Tensor, edit: HeadEdits | None, want: Reductions, backend: str = "triton") -> Any:
    """Causal attention; the queries are the last ones."""
    return attend(q, k, v, AttentionSpec(WIDTH**-0.5, q_offset=k.shape[2] - q.shape[2]), edit, want, backend)


def assert_equal(q: Tensor, k: Tensor, v: Tensor, edit: HeadEdits | None, want: Reductions) -> None:
    """Both backends give one answer (the values of top keys, as ties may fall either way)."""
    (z, found), (truth, expected) = ours(q, k, v, edit, want), ours(q, k, v, edit, want, "chunked")
    torch.testing.assert_close(z, truth, atol=TOLERANCE, rtol=TOLERANCE)
    for name, theirs in vars(expected).items():
        if theirs is not None and name != "top_indices":
            mine = getattr(found, name)
            torch.testing.assert_close(mine.float(), theirs.float(), atol=TOLERANCE, rtol=TOLERANCE, msg=name)


def synchronized(work: Callable[[], Any]) -> Callable[[], None]:
    """A call that ends when the GPU has done it."""

    def whole() -> None:
        work()
        torch.cuda.synchronize()

    return whole


def against(what: str, peer: str, theirs: Callable[[], Any], mine: Callable[[], Any], **more: Any) -> dict[str, Any]:
    """Times of both, and the memory that ours takes at its peak."""
    figure = {"work": what, "peer": peer, "gpu": torch.cuda.get_device_name(), **more}
    try:
        figure |= measure.paired(synchronized(theirs), synchronized(mine), 9)
    except torch.OutOfMemoryError:
        figure["peer_seconds"] = "does not fit"
        figure["ours_seconds"] = measure.spread([measure.seconds(synchronized(mine)) for _ in range(9)])
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    synchronized(mine)()
    figure["ours_peak_mib"] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    print(figure, flush=True)
    return figure


def prefill() -> Iterator[dict[str, Any]]:
    """The first row of the GPU table in docs/attention.md."""
    for n in LENGTHS:
        qkv = inputs(1, n, n)
        peer = partial(sdpa, *qkv)
        for kind in STATISTICS:
            want = statistics(n, kind)
            if n <= CHECKED:
                assert_equal(*qkv, None, want)
            yield against(f"statistics: {kind}", "sdpa", peer, partial(ours, *qkv, None, want), n=n)
        for kind, share in itertools.product(EDITS, (1.0, 0.1)):
            edit = edits(kind, n, share)
            if n <= CHECKED:
                assert_equal(*qkv, edit, Reductions(received=True))
            yield against(f"edit: {kind}", "sdpa", peer, partial(ours, *qkv, edit, Reductions()), n=n, share=share)
        mine = partial(ours, *qkv, None, statistics(n, "received"))
        for name, theirs in (("flex, output and lse", flex(*qkv)), ("eager, received", partial(eager, *qkv))):
            yield against("statistics: received", name, theirs, mine, n=n)


def decode() -> Iterator[dict[str, Any]]:
    """One new token with a cache."""
    for batch, kind in itertools.product(BATCHES, ("none", *EDITS)):
        qkv, edit = inputs(batch, 1, CACHE), edits(kind, CACHE, 1.0)
        assert_equal(*qkv, edit, Reductions())
        mine = partial(ours, *qkv, edit, Reductions())
        yield against(f"decode: {kind}", "sdpa", partial(sdpa, *qkv), mine, batch=batch, n=CACHE)


def main() -> None:
    """Measure and keep."""
    if not torch.cuda.is_available():
        sys.exit("triton_attention: no GPU here; nothing measured")
    before = measure.load()
    with torch.no_grad():
        figures = [*prefill(), *decode()]
    print(measure.keep("triton_attention", figures, before))


if __name__ == "__main__":
    main()
