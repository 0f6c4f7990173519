"""The `triton` backend against the float64 reference: under the interpreter (started by test_triton.py) or on a GPU."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs a GPU, or its own process: test_triton.py runs it interpreted", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed")

from workbench_kernels import AttentionSpec, HeadEdits, Reductions, attend, reference
from workbench_kernels.triton_support import Unsupported, why_not

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
SEED = int(os.environ.get("TRITON_SEED", time.time_ns() % 2**31))
TOLERANCE = {torch.float32: 2e-5 if INTERPRETED else 1e-4, torch.float16: 4e-3, torch.bfloat16: 2e-2}
B, H, G, N, D = 2, 4, 2, 41, 10
STATISTICS = ("lse", "received", "entropy", "thumbnail", "norms", "sink_mass", "mass", "top_values")
SPECS = {
    "causal": {},
    "window": {"sliding": 6},
    "wide window": {"sliding": 100},
    "softcap": {"softcap": 1.5},
    "learned sink": {"sink_logits": torch.linspace(-2, 3, H)},
}


def inputs(n: int = N, m: int | None = None, dtype: torch.dtype = torch.float32, width: int = D):
    g = torch.Generator().manual_seed(SEED)
    shapes = (B, H, n, width), (B, G, m or n, width), (B, G, m or n, width)
    q, k, v = (torch.randn(*s, generator=g) for s in shapes)
    return (q * 2).to(dtype), k.to(dtype), v.to(dtype), g


def padding(kind: str, m: int) -> torch.Tensor | None:
    pad, j = torch.tensor([[0], [7]]), torch.arange(m)[None]
    return {"none": None, "left": j >= pad, "right": j < m - pad}[kind]


def everything(m: int, sinks: bool = False, entropy: bool = True, thumbnail: bool = False) -> Reductions:
    """All that is cheap to interpret; the thumbnail is not."""
    spans = torch.tensor([[[0, 3], [m // 2, m // 2 + 9]], [[8, 8], [m - 6, m]]])
    return Reductions(
        lse=True, received=True, entropy=entropy, thumbnail=2 * thumbnail, norms=True, sink_mass=sinks, spans=spans
    )  # fmt: skip


def moved(x):
    """A dataclass of tensors on the device."""
    held = {f: y.to(DEVICE) for f, y in vars(x).items() if isinstance(y, torch.Tensor)}
    return replace(x, **held)


def check(q, k, v, spec, edits, want, tol) -> None:
    on_device = None if edits is None else moved(edits)
    z, stats = attend(*(x.to(DEVICE) for x in (q, k, v)), moved(spec), on_device, moved(want), backend="triton")
    assert z.dtype == q.dtype
    truth, expected = reference.attend(q, k, v, spec, edits, want)
    real = torch.ones(B, q.shape[2], dtype=torch.bool)
    if spec.padding is not None:  # rows that are padding hold what they like, as long as it is finite
        real = spec.padding[:, spec.q_offset - spec.kv_offset :][:, : q.shape[2]]
    assert torch.isfinite(z).all()
    compare("output", z.cpu().transpose(1, 2)[real], truth.transpose(1, 2)[real], tol)
    for name in STATISTICS:
        ours, theirs = getattr(stats, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None and name == "norms":
            ours, theirs = ours.cpu().transpose(1, 2)[real], theirs.transpose(1, 2)[real]
        if ours is not None:
            compare(name, ours.cpu(), theirs, tol)


def compare(name: str, ours: torch.Tensor, theirs: torch.Tensor, tol: float) -> None:
    both = torch.isfinite(theirs)
    error = float(((ours.double() - theirs)[both]).abs().max()) if both.any() else 0.0
    if os.environ.get("TRITON_ERRORS"):
        print(f"ERROR {name} {tol:g} {error:.1e}")
    hint = f"{name}: {{}} (TRITON_SEED={SEED})"
    torch.testing.assert_close(ours.double(), theirs, atol=tol, rtol=tol, msg=lambda m: hint.format(m))


CASES = [
    ("causal", "none", torch.float32), ("causal", "left", torch.bfloat16), ("causal", "right", torch.float32),
    ("window", "none", torch.bfloat16), ("window", "left", torch.float32), ("window", "right", torch.float32),
    ("wide window", "left", torch.float32), ("softcap", "none", torch.float32), ("softcap", "left", torch.bfloat16),
    ("learned sink", "none", torch.bfloat16), ("learned sink", "left", torch.float32),
    ("causal", "none", torch.float16),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pad", "dtype"), CASES, ids=str)
def test_output_and_statistics_equal_the_reference(name: str, pad: str, dtype: torch.dtype):
    q, k, v, _ = inputs(dtype=dtype)
    spec = AttentionSpec(scale=0.3, padding=padding(pad, N), **SPECS[name])
    check(q, k, v, spec, None, everything(N, name == "learned sink", thumbnail=pad == "left"), TOLERANCE[dtype])


def gains(g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one and of four classes; above 1, too, where others cannot give as much."""
    return torch.rand(B, H, 1, generator=g) * 3, torch.rand(1, H, 4, generator=g) * 2


def edits(kind: str, g: torch.Generator) -> HeadEdits:
    gain = torch.rand(B, H, generator=g) * 2
    gain[:, 1] = 1  # a head without edits
    window = torch.tensor([[0, 3, 0, 9]])
    some = torch.rand(B, H, generator=g) < 0.5
    values = torch.randn(B, H, 1, D, generator=g)
    two = (torch.rand(1, 1, N, generator=g) < 0.2).long()
    two[..., 0] = 1  # first row: no mass that could be given to others
    blocks = torch.zeros(1, 1, N, dtype=torch.long)
    blocks[..., 17:30] = 1  # a span that leaves whole key blocks without class 1
    five = torch.randint(0, 5, (B, H, N), generator=g)
    freed = torch.tensor([[1, 0, 2, 1]])
    one, four = gains(g)
    queries = torch.arange(N)[None] >= torch.tensor([[10], [33]])
    kinds = {
        "gain": HeadEdits(gain=gain),
        "gain, some queries": HeadEdits(gain=gain, queries=queries),
        "window": HeadEdits(window=window, sink=2),
        "replace": HeadEdits(replace=some, replacement=values),
        "one class": HeadEdits(key_class=two, class_gain=one, freed=freed),
        "one class, a span": HeadEdits(key_class=blocks, class_gain=one, freed=freed.flip(1)),
        "one class, nothing freed": HeadEdits(key_class=two, class_gain=one * 0),
        "least mass": HeadEdits(key_class=two, class_gain=one, least_mass=torch.full((1, H, 1), 0.3), freed=freed),
        "four classes": HeadEdits(key_class=five, class_gain=four, freed=freed),
        "bias and boost": HeadEdits(key_class=five, bias=four - 1, boost=four.flip(-1) * 0.3),
        "all removed": HeadEdits(key_class=five * 0 + 1, class_gain=one * 0, freed=freed * 0 + 2),
        "a class without gain": HeadEdits(key_class=five, class_gain=one, freed=freed),
    }
    kinds["together"] = HeadEdits(
        gain=gain, window=window, sink=1, queries=queries, key_class=five, class_gain=four, freed=freed,
        least_mass=four * 0.1, bias=one - 1, replace=some, replacement=values,
    )  # fmt: skip
    kinds["together, one class"] = replace(kinds["one class"], gain=gain, window=window, sink=1, queries=queries)
    return kinds[kind]


PADS = {"gain": "left", "window": "left", "one class": "left", "together": "left", "least mass": "right"}
KINDS = [
    "gain", "gain, some queries", "window", "replace", "one class", "one class, a span", "one class, nothing freed",
    "least mass", "four classes", "bias and boost", "all removed", "a class without gain", "together",
    "together, one class",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_edits_equal_the_reference(kind: str):
    q, k, v, g = inputs()
    spec = AttentionSpec(scale=0.3, padding=padding(PADS.get(kind, "none"), N))
    check(q, k, v, spec, edits(kind, g), everything(N, thumbnail=kind in ("one class", "four classes")), 2e-5)


def test_edits_meet_sinks_and_a_sliding_window():
    q, k, v, g = inputs(dtype=torch.bfloat16)
    spec = AttentionSpec(scale=0.3, **SPECS["window"], **SPECS["learned sink"])
    for kind in ("one class", "four classes"):
        check(q, k, v, spec, edits(kind, g), everything(N, True), 2e-2)


DECODE = [
    ("causal", "none", torch.float32), ("causal", "left", torch.bfloat16), ("window", "left", torch.float32),
    ("learned sink", "none", torch.float32), ("softcap", "left", torch.float32),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pad", "dtype"), DECODE, ids=str)
def test_decode_rows_see_the_cache(name: str, pad: str, dtype: torch.dtype):
    n, m = 2, 83 if INTERPRETED else 3000
    q, k, v, _ = inputs(n, m, dtype)
    spec = AttentionSpec(scale=0.3, q_offset=m + 3, kv_offset=5, padding=padding(pad, m), **SPECS[name])
    for entropy in (False, True):  # split over the keys, and not
        check(q, k, v, spec, None, everything(m, name == "learned sink", entropy), TOLERANCE[dtype])


@pytest.mark.parametrize("kind", ["one class", "five", "window", "bias and boost"])
def test_edits_in_a_decode_step(kind: str):
    n, m = 2, 83 if INTERPRETED else 300
    q, k, v, g = inputs(n, m)
    one, four = gains(g)
    freed, queries = torch.tensor([[1, 0, 2, 1]]), torch.tensor([[True, True], [False, True]])
    classes = torch.randint(0, 2 if kind == "one class" else 5, (B, H, m), generator=g)
    edit = {
        "one class": HeadEdits(key_class=classes, class_gain=one, freed=freed, gain=one[..., 0]),
        "five": HeadEdits(key_class=classes, class_gain=four, freed=freed, queries=queries, gain=one[..., 0]),
        "window": HeadEdits(window=torch.tensor([[0, 3, 30, 50]]), sink=2, queries=queries),
        "bias and boost": HeadEdits(key_class=classes, bias=four - 1, boost=four * 0.3),
    }[kind]
    spec = AttentionSpec(scale=0.3, q_offset=m - n, padding=padding("left", m))
    check(q, k, v, spec, edit, everything(m, entropy=False), 2e-5)


def test_strided_inputs_and_chosen_rows():
    q, k, v, _ = inputs(width=32)
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    want = Reductions(lse=True, rows=torch.tensor([[3, 40, 9]] * B), top_k=3, spans=torch.tensor([[[0, 2]]] * B))
    check(q, k, v, AttentionSpec(scale=0.3), None, want, 2e-5)


def test_rows_that_see_nothing_are_zero():
    q, k, v, _ = inputs()
    nothing = padding("none", N) or torch.zeros(B, N, dtype=torch.bool)
    spec = AttentionSpec(scale=0.3, padding=nothing.to(DEVICE))
    q, k, v = (x.to(DEVICE) for x in (q, k, v))
    z, stats = attend(q, k, v, spec, None, Reductions(lse=True, entropy=True, received=True), backend="triton")
    assert not z.any() and not stats.entropy.any() and not stats.received.any()
    assert (stats.lse == float("-inf")).all()


def test_what_is_not_supported_is_refused():
    q, k, v, _ = inputs()
    unknown = AttentionSpec(scale=0.3, allowed=lambda b, h, i, j: j <= i)
    assert why_not(unknown) == "a mask function" and why_not(AttentionSpec(scale=0.3)) is None
    for spec, edit, want in (
        (unknown, None, None),
        (AttentionSpec(scale=0.3), HeadEdits(uniform=torch.ones(1, H, dtype=torch.bool)), None),
        (AttentionSpec(scale=0.3), None, Reductions(distance=True)),
    ):
        with pytest.raises(Unsupported, match="chunked"):
            attend(q, k, v, spec, edit, want, backend="triton")
    with pytest.raises(Unsupported, match="gradients"):
        attend(q.requires_grad_(), k, v, AttentionSpec(scale=0.3), backend="triton")
