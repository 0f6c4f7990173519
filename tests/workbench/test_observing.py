"""Observe against patterns of the plain eager bridge: every statistic, padding, windows, generation, edits, refusals."""

from __future__ import annotations

import pytest
import tiny_models
import torch

import workbench as wb
from workbench import probes
from workbench.errors import BadInput, TooLarge
from workbench.observation import observe, observing

KINDS = ["llama", "qwen3", "mistral", "gemma2", "gpt2", "gpt_neox", "gpt_oss", "llava"]
TOL = {"atol": 2e-5, "rtol": 2e-5}  # float32 sums of 40 weights in another order


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


def tokens(b=2, n=40, seed=0):
    return torch.randint(3, 97, (b, n), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def patterns(model, x, mask=None):
    """[layers, b, h, n, n] of the plain bridge."""
    found = {}
    hooks = [(f"blocks.{i}.attn.hook_pattern", lambda p, hook: found.__setitem__(hook.name, p)) for i in range(3)]
    extra = {} if mask is None else {"attention_mask": mask.long()}
    model.bridge.run_with_hooks(x, fwd_hooks=hooks, **extra)
    return torch.stack([found[f"blocks.{i}.attn.hook_pattern"] for i in range(3)]).double()


SPANS = [(8, 11), (20, 21), (8, 40)]


def everything():
    return [
        probes.received(), probes.entropy(), probes.distance(), probes.thumbnail(6), probes.lse(),
        probes.mass(SPANS), probes.top_keys(3), probes.mass([(9, 12)], rows=(-1, 30), name="few"),
        probes.top_keys(2, rows=(-1,), name="last"),
    ]  # fmt: skip


@pytest.mark.parametrize("padded", [False, True])
def test_statistics_are_those_of_the_eager_patterns(model, padded: bool):
    x, mask = tokens(), None
    if padded:
        mask = torch.arange(40)[None] >= torch.tensor([[0], [7]])
    p = patterns(model, x, mask)
    learned = [probes.sink_mass()] if model.config.model_type == "gpt_oss" else []
    found = observe(model, x, [*everything(), *learned], mask)
    valid = torch.ones(2, 40, dtype=torch.bool) if mask is None else mask
    sees = (p > 0) & valid[None, :, None, :, None]
    p = p * valid[None, :, None, :, None]
    rows = valid[None, :, None].expand(3, 2, 8, 40)

    def close(ours, theirs, keep=None):
        ours = ours.double()
        torch.testing.assert_close(
            ours if keep is None else ours[keep], theirs if keep is None else theirs[keep], **TOL
        )

    close(found["received"], p.sum(-2) / sees.sum(-2).clamp_min(1))
    close(found["entropy"], -torch.xlogy(p, p).sum(-1), rows)
    masses = torch.stack([p[..., s:e].sum(-1) for s, e in SPANS], -1)
    close(found["mass"], masses, rows)
    close(found["few"], p[..., [39, 30], 9:12].sum(-1)[..., None])
    top = p.topk(3, -1)
    close(found["top_keys"].values, top.values, rows)
    close(p.gather(-1, found["top_keys"].indices), top.values, rows)
    assert found["last"].indices.shape == (3, 2, 8, 1, 2)
    distance = torch.arange(40)[:, None] - torch.arange(40)
    bins = torch.where(distance < 1, distance, distance.clamp_min(1).log2().floor().long() + 1)
    profile = torch.stack([(p * (bins == b)).sum((-1, -2)) for b in range(7)], -1) / valid.sum(-1)[None, :, None, None]
    close(found["distance"], profile)
    held = p.sum(-1)  # 1, but for what a learned sink takes
    close(found["distance"].sum(-1), held.sum(-1) / valid.sum(-1)[None, :, None])
    if "sink_mass" in found:
        close(found["sink_mass"], 1 - held, rows)
        assert 0.01 < found["sink_mass"][rows].mean() < 0.9
    else:
        close(held, torch.ones_like(held), rows)
    assert found["thumbnail"].pooled.shape == (3, 2, 8, 2, 6, 6)
    block = p[..., 7:14, 0:7][:, 0]  # row 0 is never padded: blocks of ceil(40 / 6) positions
    close(found["thumbnail"].pooled[:, 0, :, 0, 1, 0], block.sum(-1).mean(-1))
    close(found["thumbnail"].pooled[:, 0, :, 1, 1, 0], block.amax((-1, -2)))
    best = found["received"].topk(8, -1)
    torch.testing.assert_close(found["thumbnail"].weights, best.values)


@torch.no_grad()
def test_norms_are_of_the_heads_outputs_keys_values_and_stream(model):
    x, seen = tokens(), {}
    names = ["attn.hook_z", "attn.hook_k", "attn.hook_v", "hook_resid_post"]
    hooks = [(f"blocks.1.{n}", lambda a, hook, n=n: seen.__setitem__(n, a)) for n in names]
    model.bridge.run_with_hooks(x, fwd_hooks=hooks)
    found = observe(model, x, [probes.norms(), probes.key_norms(), probes.value_norms(), probes.resid_norms()])
    z, k, v, resid = (seen[n] for n in names)
    heads = z if z.dim() == 4 else z.unflatten(-1, (8, -1))
    torch.testing.assert_close(found["norms"][1], heads.norm(dim=-1).transpose(1, 2), **TOL)
    for name, a in (("key_norms", k), ("value_norms", v)):
        a = a if a.dim() == 4 else a.unflatten(-1, (model.n_kv_heads, -1))
        torch.testing.assert_close(found[name][1], a.norm(dim=-1).transpose(1, 2), **TOL)
    torch.testing.assert_close(found["resid_norms"][1], resid.norm(dim=-1), **TOL)
    assert found["resid_norms"].shape == (3, 2, 40)


def test_generation_is_observed_call_by_call(model):
    x = tokens(1, 24)
    with observing(model, [probes.entropy(), probes.mass([(3, 9)]), probes.received(), probes.top_keys(1)]) as found:
        new = model.generate(x, 6, stop=[])
    assert len(found.calls) == 6 and found["entropy"].shape == (3, 1, 8, 24 + 5)
    whole = torch.cat([x, new[:, :-1]], 1)
    once = observe(model, whole, [probes.entropy(), probes.mass([(3, 9)]), probes.top_keys(1)])
    for name in ("entropy", "mass"):
        torch.testing.assert_close(found[name], once[name], **TOL)
    p = patterns(model, whole)  # not the indices: repeated tokens tie
    at = p.gather(-1, found["top_keys"].indices)
    torch.testing.assert_close(at, p.topk(1, -1).values, **TOL)
    torch.testing.assert_close(found["top_keys"].values, once["top_keys"].values, **TOL)
    with pytest.raises(BadInput, match="calls cannot be joined"):
        found["received"]


def test_edits_are_in_what_is_seen(llama):
    x, heads = tokens(), [(1, 3)]
    plain = observe(llama, x, [probes.received(), probes.norms(), probes.entropy()])
    with wb.intervene(llama, wb.mask(heads) + wb.mask([(1, 5)], how="uniform") + wb.window([(0, 2)], sink=1, recent=3)):
        edited = observe(llama, x, [probes.received(), probes.norms(), probes.entropy(), probes.distance()])
    assert (edited["norms"][1, :, 3] == 0).all() and (plain["norms"][1, :, 3] > 0).all()
    even = torch.arange(1, 41).log().expand(2, -1)
    torch.testing.assert_close(edited["entropy"][1, :, 5], even, **TOL)
    assert (plain["entropy"][1, :, 5] < even).any()
    assert (edited["entropy"][0, :, 2] <= torch.tensor(4.0).log() + 1e-5).all()
    assert not llama.observers and not llama.edits


def test_means_are_taken_over_valid_rows_or_the_batch(llama):
    x, mask = tokens(), torch.arange(40)[None] >= torch.tensor([[0], [9]])
    whole = observe(llama, x, [probes.entropy()], mask)["entropy"]
    rows = observe(llama, x, [probes.entropy(reduce="mean")], mask)["entropy"]
    assert rows.shape == (3, 2, 8, 1)
    torch.testing.assert_close(rows[:, 1, :, 0], whole[:, 1, :, 9:].mean(-1), **TOL)
    batch = observe(llama, x, [probes.entropy(reduce="mean", over="batch")])["entropy"]
    assert batch.shape == (3, 1, 8, 40)


def test_a_text_is_tokens_and_positions_may_differ_by_row(llama):
    assert observe(llama, "w3 w4 w5", [probes.received()])["received"].shape == (3, 1, 8, 4)
    per_row = observe(llama, tokens(), [probes.mass([[(0, 4)], [(5, 9)]], rows=[(10,), (-1,)])])["mass"]
    first = observe(llama, tokens(), [probes.mass([(0, 4)], rows=(10,))])["mass"]
    second = observe(llama, tokens(), [probes.mass([(5, 9)], rows=(39,))])["mass"]
    torch.testing.assert_close(per_row, torch.stack([first[:, 0], second[:, 1]], 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: [probes.mass([(3, 3)])], "start < end"),
        (lambda: [probes.mass([(30, 50)])], "outside the text"),
        (lambda: [probes.mass([[(0, 4)]] * 3)], "3 lists of positions for 2 batch rows"),
        (lambda: [probes.top_keys(2, rows=(40,))], "outside the text"),
        (lambda: [probes.top_keys(2, rows=("a",))], "give integers"),
        (lambda: [probes.received(), probes.received()], "two probes of one name"),
        (lambda: [probes.entropy(reduce="sum")], "reduce='sum'"),
        (lambda: [probes.top_keys(0)], "at least one key"),
        (lambda: [probes.resid_norms("hook_nothing")], "no hook"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_line(llama, make, words):
    with pytest.raises(BadInput, match=words) as error:
        observe(llama, tokens(), make())
    assert "\n" not in str(error.value) and not llama.observers


def test_a_layer_without_a_learned_sink_has_none(llama):
    assert observe(llama, tokens(), [probes.sink_mass()])["sink_mass"].isnan().all()


def test_padding_and_size_are_refused(llama):
    mask = torch.arange(40)[None] >= torch.tensor([[0], [7]])
    with pytest.raises(BadInput, match="on padding"):
        observe(llama, tokens(), [probes.mass([(3, 9)])], mask)
    with pytest.raises(TooLarge, match="choose rows"):
        observe(llama, tokens(), [probes.top_keys(30)], memory=10_000)
    observe(llama, tokens(), [probes.top_keys(30, rows=(-1,))], memory=130_000)


def test_observing_changes_nothing(model):
    x = tokens()
    plain = model(x)
    with observing(model, everything()), torch.no_grad():
        seen = model(x)
    torch.testing.assert_close(seen, plain, atol=1e-4, rtol=1e-4)
    with pytest.raises(ZeroDivisionError), observing(model, [probes.received()]):
        raise ZeroDivisionError
    assert not model.observers


def test_a_retrieval_scan_can_be_watched():
    """A request of the scan's own and an observer share a forward."""
    from workbench.probes.retrieval import score_block
    from workbench.tasks.needle import Assembler, answer_ends, blocks

    model = wb.load("planted-copy")
    block = next(blocks(Assembler(model.tokenizer), [128], [50.0], 1, 5))
    stops = answer_ends(model.tokenizer, model.stop_tokens)
    alone = score_block(model, block, stops)
    with observing(model, [probes.received()]) as found:
        watched = score_block(model, block, stops)
    assert (watched[0].distinct == alone[0].distinct).all() and len(found.calls) >= 2
