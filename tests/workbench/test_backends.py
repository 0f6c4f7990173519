"""Backends: the fused ways against `hooks`, which computes on whole patterns in code of its own; what is refused."""

from __future__ import annotations

import pytest
import tiny_models
import torch

import workbench as wb
from workbench import backends, probes
from workbench.errors import BadInput, TooLarge, Unsupported
from workbench.observation import observe

KINDS = ["llama", "qwen3", "gemma2", "gemma3_text", "mistral", "gpt2", "gpt_neox", "gpt_oss"]
HEADS, SPAN = [(0, 1), (1, 3), (1, 6), (2, 0)], tuple(range(8, 12))
N, START = 24, [15, 18]
MASK = torch.arange(N)[None] >= torch.tensor([[0], [3]])


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


def tokens(b: int = 2, n: int = N, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 97, (b, n), generator=torch.Generator().manual_seed(seed))


def by(model, name: str, run):
    model.backend = name
    try:
        return run()
    finally:
        model.backend = "auto"


def values(columns: int = N) -> torch.Tensor:
    return torch.randn(len(HEADS), columns, 4, generator=torch.Generator().manual_seed(3))


EDITS = {
    "nothing": lambda m: wb.scale(HEADS, 1.0),
    "zero": lambda m: wb.mask(HEADS),
    "uniform": lambda m: wb.mask(HEADS, "uniform"),
    "mean": lambda m: wb.mask(HEADS, "mean", source=wb.reference(m, tokens(4, 20, 9))),
    "resample": lambda m: wb.mask(HEADS, "resample", source=wb.reference(m, tokens(4, 20, 9), "resample")),
    "scale": lambda m: wb.scale(HEADS, 1.7),
    "window": lambda m: wb.window(HEADS, 2, 4),
    "calibrate": lambda m: wb.calibrate(HEADS, keys=(5, 6)),
    "calibrate all": lambda m: wb.calibrate(HEADS, keys=(5, 6), receivers="all"),
    "calibrate by rule": lambda m: wb.calibrate(HEADS, 0.2, absolute=0.12),
    "amplify": lambda m: wb.amplify(HEADS, SPAN, 3),
    "suppress": lambda m: wb.suppress(HEADS, SPAN, above=0.2),
    "bias": lambda m: wb.bias(HEADS, SPAN, -1.5),
    "pai": lambda m: wb.pai(HEADS, SPAN, 0.4),
    "set_pattern": lambda m: wb.set_pattern(HEADS, (9, -1), (7, 8), [[0.75, 0.25], [0.1, 0.5]]),
    "patch": lambda m: wb.patch(HEADS, values()),
    "route": lambda m: wb.route(HEADS, 0.3),
    "phases": lambda m: wb.amplify(HEADS, SPAN, 3, at="decode") + wb.window(HEADS, 1, 3, at="prefill"),
    "together": lambda m: wb.calibrate(HEADS, 0.2, absolute=0.12) + wb.bias([(1, 3)], (9,), 2) + wb.window(HEADS, 3, 9)
    + wb.scale([(1, 6)], 0.5) + wb.pai([(2, 0)], (10,), 0.3) + wb.set_pattern([(0, 1)], (20,), (5, 9), [0.5, 0.5]),
    "by row": lambda m: [wb.mask(HEADS, "uniform") + wb.scale([(0, 2)], 2), wb.calibrate([(1, 3)], keys=(6,))],
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
@torch.no_grad()
def test_hooks_give_the_logits_of_chunked(model, name: str):
    x, edit = tokens(seed=2), EDITS[name](model)

    def run():
        return model.forward(x, MASK, edits=edit, decode_from=START).logits[MASK]

    ours, theirs = by(model, "chunked", run), by(model, "hooks", run)
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()
    plain = model(x, MASK)[MASK]
    assert ((ours - plain).abs().max() > 1e-3 * plain.abs().max()) == (name != "nothing")


@torch.no_grad()
def test_hooks_give_the_statistics_of_chunked(model):
    x = tokens(seed=2)
    asked = [
        probes.received(), probes.entropy(), probes.lse(), probes.norms(), probes.thumbnail(5), probes.distance(),
        probes.top_keys(2, rows=(-1, 20)), probes.mass([(5, 9)]),
    ]  # fmt: skip
    edit = EDITS["phases"](model) + wb.bias([(0, 2)], SPAN, 1.0)

    def run():
        with wb.intervene(model, edit):
            return observe(model, x, asked, MASK)

    ours, theirs = by(model, "chunked", run), by(model, "hooks", run)
    rows = MASK[None, :, None].expand(3, 2, 8, N)
    for name in ("received", "distance"):
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-5, rtol=2e-5)
    for name in ("entropy", "lse", "norms", "mass"):
        torch.testing.assert_close(ours[name][rows], theirs[name][rows], atol=1e-4, rtol=2e-5)
    torch.testing.assert_close(ours["thumbnail"].pooled, theirs["thumbnail"].pooled, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(ours["top_keys"].values, theirs["top_keys"].values, atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_hooks_and_reference_decode_as_chunked_does(llama):
    x, edit = tokens(1, 12), wb.calibrate(HEADS, 0.0, absolute=0.12) + wb.amplify([(0, 2)], (3,), 20, at="decode")
    said = {
        name: by(llama, name, lambda: llama.generate(x, 6, stop=[], edits=edit).tolist())
        for name in ("auto", "chunked", "hooks", "reference")
    }
    assert said["chunked"] == said["hooks"] == said["reference"] == said["auto"]
    assert said["chunked"] != llama.generate(x, 6, stop=[]).tolist()


@torch.no_grad()
def test_reference_gives_the_logits_and_statistics_of_chunked(llama):
    x, edit = (
        tokens(2, 14),
        wb.calibrate(HEADS, 0.2, absolute=0.12, at="prefill") + wb.bias(HEADS, (4,), 2, at="decode"),
    )

    def run():
        with wb.observing(llama, [probes.received(), probes.entropy(), probes.top_keys(1, rows=(-1,))]) as found:
            return llama.forward(x, edits=edit, decode_from=[8]).logits, found["received"].float()

    for ours, theirs in zip(by(llama, "chunked", run), by(llama, "reference", run), strict=True):
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


def test_gradients_pass_through_hooks(llama):
    def gradient():
        kept = {}

        def keep(t, hook):
            kept["q"] = t.detach().requires_grad_()
            return kept["q"]

        with llama.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_q", keep)]):
            llama.forward(tokens(), edits=wb.calibrate(HEADS, keys=(5, 6))).logits.square().mean().backward()
        return kept["q"].grad

    ours, theirs = by(llama, "chunked", gradient), by(llama, "hooks", gradient)
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@torch.no_grad()
def test_statistics_behind_a_users_hook_are_of_what_the_hook_made(llama):
    x, asked = tokens(), [probes.received(), probes.mass([(5, 9)]), probes.lse()]

    def first_key(p, hook):
        p = torch.zeros_like(p)
        p[..., 5] = 1
        return p

    with llama.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", first_key)]):
        seen = observe(llama, x, asked)
        with wb.intervene(llama, wb.scale([(1, 2)], 0.0) + wb.amplify([(1, 3)], (7,), 2)):
            edited = observe(llama, x, asked)
    assert (seen["mass"][1, :, :, 5:] == 1).all() and (edited["received"][1, :, :, 5] == 1).all()
    plain = observe(llama, x, asked)
    torch.testing.assert_close(seen["received"][0], plain["received"][0], atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(seen["lse"][1], plain["lse"][1], atol=2e-5, rtol=2e-5)
    assert (plain["mass"][1] - seen["mass"][1]).abs().max() > 0.1


@torch.no_grad()
def test_a_users_hook_comes_first(llama):
    """Twice the pattern, then the edit; and the fused backends have no pattern to show."""
    x, edit = tokens(), wb.suppress(HEADS, SPAN)

    def doubled():
        with llama.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", lambda p, hook: p * 2)]):
            return llama.forward(x, edits=edit).logits

    ours, theirs = by(llama, "auto", doubled), by(llama, "hooks", doubled)
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()
    for name in ("chunked", "reference"):
        with pytest.raises(Unsupported, match=f"backend={name} has no pattern"):
            by(llama, name, doubled)


@torch.no_grad()
def test_what_is_asked_for_is_never_answered_by_another(llama, monkeypatch):
    with pytest.raises(BadInput, match="Did you mean 'chunked'"):
        llama.backend = "chunkd"
    with pytest.raises(BadInput, match="use one of auto"):
        wb.load("llama", backend="flash")
    assert llama.backend == "auto" and wb.load(llama, backend="hooks").backend == "hooks" == wb.load(llama).backend
    llama.backend = "auto"
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(Unsupported, match="Triton is not installed|runs on a GPU, not on cpu"):
        by(llama, "triton", lambda: llama(tokens()))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    if backends.no_triton(torch.device("cpu")) is None:
        with pytest.raises(Unsupported, match="cannot do this: uniform heads"):
            by(llama, "triton", lambda: llama.forward(tokens(), edits=wb.mask(HEADS, "uniform")))
    monkeypatch.setattr(llama, "memory", 1000)
    with pytest.raises(TooLarge, match=r"raise model\.memory"):
        by(llama, "hooks", lambda: llama(tokens()))


def test_auto_goes_to_triton_on_a_gpu_where_it_can(monkeypatch):
    from types import SimpleNamespace

    from workbench_kernels import AttentionSpec, HeadEdits, Reductions

    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: object())
    gpu, cpu = (SimpleNamespace(device=torch.device(d), dtype=torch.float32) for d in ("cuda", "cpu"))
    exact = SimpleNamespace(device=gpu.device, dtype=torch.float64)
    spec, uniform = AttentionSpec(scale=1.0), [HeadEdits(uniform=torch.ones(1, 1, dtype=torch.bool))]
    assert backends.pick("auto", gpu, spec, [], None, False) == "triton"
    assert backends.pick("auto", cpu, spec, [], None, False) == "chunked"
    for edits, want, grad in [(uniform, None, False), ([], Reductions(distance=True), False), ([], None, True)]:
        assert backends.pick("auto", gpu, spec, edits, want, grad) == "chunked"
        with pytest.raises(Unsupported, match="backend=triton cannot"):
            backends.pick("triton", gpu, spec, edits, want, grad)
    assert backends.pick("auto", exact, spec, [], None, False) == "chunked"
    with pytest.raises(Unsupported, match="cannot do this: float64"):
        backends.pick("triton", exact, spec, [], None, False)
    with pytest.raises(Unsupported, match="for the processor"):
        backends.pick("reference", gpu, spec, [], None, False)


def test_doctor_says_what_auto_picks_and_why(monkeypatch):
    from workbench.commands.doctor import _backends

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = {f.name: f for f in _backends()}
    assert found["auto"].detail == "picks chunked for everything: no GPU that torch can use"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: object())
    assert "triton where it can do the request" in backends.explanation()
