"""observe with grad=True against autograd through the patterns of the plain eager bridge; what is refused."""

from __future__ import annotations

import pytest
import tiny_models
import torch

import workbench as wb
from workbench import probes
from workbench.errors import BadInput, Unsupported
from workbench.observation import observe, observing

N = 40
SPANS, LATE = [(8, 11), (30, 40)], (-1, 30)
MASK = torch.arange(N)[None] >= torch.tensor([[0], [7]])


@pytest.fixture(scope="module", params=["llama", "qwen3", "mistral", "gemma2", "gpt2", "gpt_oss"])
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


def tokens(seed: int) -> torch.Tensor:
    return torch.randint(3, 97, (2, N), generator=torch.Generator().manual_seed(seed))


def entering(kept: list[torch.Tensor]):
    """A hook that makes the residual stream before the first block a leaf."""

    def hook(x, hook):
        kept.append(x.detach().requires_grad_())
        return kept[-1]

    return [("blocks.0.hook_resid_pre", hook)]


def whole(model, x, mask) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The leaf, and the statistics from whole patterns."""
    leaf: list[torch.Tensor] = []
    found: dict[str, list[torch.Tensor]] = {"p": [], "z": []}
    hooks = entering(leaf)
    for i in range(3):
        hooks.append((f"blocks.{i}.attn.hook_pattern", lambda p, hook: found["p"].append(p)))
        hooks.append((f"blocks.{i}.attn.hook_z", lambda z, hook: found["z"].append(z)))
    model.bridge.run_with_hooks(x, fwd_hooks=hooks, attention_mask=mask.long())
    p = torch.stack(found["p"])
    text = p * mask[None, :, None, :, None]
    sees = ((p > 0) & mask[None, :, None, :, None]).sum(-2).clamp_min(1)
    distance = torch.arange(N)[:, None] - torch.arange(N)
    bins = torch.where(distance < 1, distance, distance.clamp_min(1).log2().floor().long() + 1)
    profile = torch.stack([(text * (bins == b)).sum((-1, -2)) for b in range(7)], -1) / mask.sum(-1)[:, None, None]
    cell = torch.arange(N) // 7 == torch.arange(6)[:, None]
    rows = (mask.float() @ cell.float().mT).clamp_min(1)[:, None, :, None]
    z = torch.stack([x if x.dim() == 4 else x.unflatten(-1, (8, -1)) for x in found["z"]])
    return leaf[0], {
        "received": text.sum(-2) / sees,
        "entropy": -(text * (text + 1e-30).log()).sum(-1),
        "distance": profile,
        "pooled": cell.float() @ text @ cell.float().mT / rows,
        "mass": torch.stack([text[..., s:e].sum(-1) for s, e in SPANS], -1),
        "few": p[..., [39, 30], 26:29].sum(-1, keepdim=True),
        "top": p[..., [39, 30], :].topk(3, -1).values,
        "norms": z.norm(dim=-1).transpose(2, 3),
    }


def watched(model, x, mask) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    leaf: list[torch.Tensor] = []
    asked = [
        probes.received(), probes.entropy(), probes.distance(), probes.thumbnail(6), probes.mass(SPANS), probes.norms(),
        probes.mass([(26, 29)], rows=LATE, name="few"), probes.top_keys(3, rows=LATE, name="top"),
    ]  # fmt: skip
    with model.bridge.hooks(fwd_hooks=entering(leaf)):
        found = observe(model, x, asked, mask, grad=True)
    out = {name: found[name] for name in ("received", "entropy", "distance", "mass", "few", "norms")}
    return leaf[0], out | {"top": found["top"].values, "pooled": found["thumbnail"].pooled[:, :, :, 0]}


def test_gradients_are_those_of_whole_patterns(model):
    """Of random sums of each statistic, back to the embedding, with a row that is padded on the left."""
    x = tokens(1)
    (ours, own), (theirs, true) = watched(model, x, MASK), whole(model, x, MASK)
    for name in true:
        weight = torch.randn_like(true[name])
        if name in ("entropy", "mass", "norms"):
            weight = weight * MASK[None, :, None, :, *[None] * (weight.dim() - 4)]
        torch.testing.assert_close(own[name] * weight, true[name] * weight, atol=1e-4, rtol=1e-4)
        (a,) = torch.autograd.grad((own[name] * weight).sum(), ours, retain_graph=True)
        (b,) = torch.autograd.grad((true[name] * weight).sum(), theirs, retain_graph=True)
        # ‖z‖ of padding does not count; what padded rows look at is anybody's guess
        assert (a - b)[MASK].abs().max() <= 1e-4 * b[MASK].abs().max(), name
        assert b[MASK].abs().max() > 0


def test_gradients_reach_parameters_and_activation_probes(llama):
    x = tokens(2)
    llama.bridge.original_model.requires_grad_(True)
    try:
        found = observe(
            llama, x, [probes.lse(), probes.resid_norms(), probes.key_norms(), probes.received()], grad=True
        )
        weights = dict(llama.bridge.original_model.named_parameters())
        k = next(p for name, p in weights.items() if "layers.0" in name and "k_proj" in name)
        slopes = [torch.autograd.grad(found[n].sum(), k, retain_graph=True)[0] for n in ("lse", "resid_norms")]
        assert all(g.abs().max() > 0 for g in slopes)
        with observing(llama, [probes.lse()], grad=True) as several:
            llama(x)
            llama(x[:1])
        (again,) = torch.autograd.grad(several.calls[0]["lse"].sum(), k)
        torch.testing.assert_close(again, slopes[0], atol=1e-5, rtol=1e-4)
        with torch.no_grad():
            plain = observe(llama, x, [probes.received()])
        assert not plain["received"].requires_grad
        torch.testing.assert_close(found["received"].detach(), plain["received"], atol=1e-6, rtol=1e-5)
        with torch.no_grad():  # against a difference
            direction = torch.randn_like(k)
            direction /= direction.norm()
            ends = []
            for sign in (1, -1):
                k += sign * 1e-2 * direction
                ends.append(observe(llama, x, [probes.lse()])["lse"].double().sum())
                k -= sign * 1e-2 * direction
        slope = (slopes[0] * direction).sum().double()
        torch.testing.assert_close((ends[0] - ends[1]) / 2e-2, slope, atol=2e-2 * float(slopes[0].norm()), rtol=2e-2)
    finally:
        llama.bridge.original_model.requires_grad_(False)


def test_edits_are_in_the_gradient(llama):
    """A masked head's norm has none; a window leaves the far keys without."""
    leaf: list[torch.Tensor] = []
    edit = wb.mask([(0, 3)]) + wb.window([(0, 2)], sink=1, recent=3)
    with wb.intervene(llama, edit), llama.bridge.hooks(fwd_hooks=entering(leaf)):
        found = observe(llama, tokens(3), [probes.norms(), probes.top_keys(3, rows=(-1,)), probes.entropy()], grad=True)
    (none,) = torch.autograd.grad(found["norms"][0, :, 3].sum(), leaf[0], retain_graph=True)
    (some,) = torch.autograd.grad(found["norms"][0, :, 4].sum(), leaf[0], retain_graph=True)
    assert (none == 0).all() and some.abs().max() > 0
    (near,) = torch.autograd.grad(found["entropy"][0, :, 2, -1].sum(), leaf[0])
    assert (near[:, 1 : N - 3] == 0).all() and (near[:, N - 3 :].abs().amax(-1) > 0).all()


def test_what_carries_no_gradient_is_refused_by_name(llama):
    x, everything = tokens(4), [probes.received()]
    with pytest.raises(Unsupported, match=r"held \(it counts queries\) has no gradients"):
        observe(llama, x, [probes.received(), probes.held((3,))], grad=True)
    with pytest.raises(BadInput, match="nothing requires gradients"):
        observe(llama, x, everything, grad=True)
    hooks = entering([])
    with llama.bridge.hooks(fwd_hooks=hooks):
        found = observe(llama, x, [probes.thumbnail(4)], grad=True)
    with pytest.raises(NotImplementedError, match="channel 1"):
        found["thumbnail"].pooled.sum().backward()
    with pytest.raises(BadInput, match="as in generate"), observing(llama, everything, grad=True):
        llama.generate(x[:1], 2)
    for name in ("hooks", "reference"):
        llama.backend = name
        try:
            with pytest.raises(Unsupported, match="without gradients"), llama.bridge.hooks(fwd_hooks=hooks):
                observe(llama, x[:1, :6], everything, grad=True)
        finally:
            llama.backend = "auto"
    pattern = [("blocks.1.attn.hook_pattern", lambda p, hook: p)]
    with pytest.raises(Unsupported, match="take the hook off"), llama.bridge.hooks(fwd_hooks=hooks + pattern):
        observe(llama, x, everything, grad=True)
    assert not llama.observers
