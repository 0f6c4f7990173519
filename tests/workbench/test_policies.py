"""Cache policies against naive references: dense masks on whole patterns, float64, one policy's rule in a few lines."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch

import workbench as wb
from workbench.errors import BadInput, Unsupported
from workbench.policies import discover, named
from workbench.policies.scheme import Scheme, everything
from workbench.policies.setting import Setting, TooTight
from workbench.simulation.cases import Batch, Case
from workbench.simulation.costs import costs
from workbench.simulation.decoding import decode
from workbench.simulation.quality import quality
from workbench.simulation.reading_prompts import read_by, read_whole, suits, told

LAYERS, HEADS, KV, GROUP = 3, 8, 2, 4
LENGTHS, TOLD = (61, 70, 75), 6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module", params=[0, 1], ids=["question after", "last token again"])
def asked(request, model):
    """Three random texts of several lengths, their plain run, and what hooks see of it."""
    rng = np.random.default_rng(7 + request.param)
    cases = [Case(tuple(rng.integers(3, 90, n + TOLD).tolist()), n, TOLD - 2 * (1 - request.param), request.param)
             for n in LENGTHS]  # fmt: skip
    batch = Batch.of(cases, model.device)
    prompts, full = read_whole(model, batch)
    return batch, prompts, full


def setting(budget, prefill="full", seed=0):
    rng = np.random.default_rng(seed)
    heads = [(layer, head) for layer in range(LAYERS) for head in range(KV)]
    ranked = [heads[i] for i in rng.permutation(len(heads))]
    scores = {layer: rng.random(HEADS) for layer in range(LAYERS)}
    return Setting(range(LAYERS), HEADS, KV, min(LENGTHS), budget, ranked, scores, prefill, 16)


def plain_scores(model, tokens):
    """Scores before the softmax of a plain eager run, [layer][h, n, n], masked entries -inf."""
    found = {}

    def hook(scores, hook):
        found[hook.layer()] = scores[0].double()

    names = [(f"blocks.{i}.attn.hook_attn_scores", hook) for i in range(LAYERS)]
    model.bridge.run_with_hooks(torch.tensor([tokens]), fwd_hooks=names)
    n = len(tokens)
    above = torch.ones(n, n, dtype=torch.bool).triu(1)
    return {i: s.masked_fill(above, float("-inf")) for i, s in found.items()}


def with_scores(model, tokens, change):
    """Logits of the eager run in which change(layer, scores [h, n, n]) rewrites the scores."""

    def hook(scores, hook):
        return change(hook.layer(), scores[0].double().clone())[None].to(scores.dtype)

    names = [(f"blocks.{i}.attn.hook_attn_scores", hook) for i in range(LAYERS)]
    return model.bridge.run_with_hooks(torch.tensor([tokens]), fwd_hooks=names)[0]


def masked_run(model, case, rule, rows_from):
    """Rows i from `rows_from` on see keys j in head h of a layer only where rule(layer, h, i, j); all [n, n]."""
    n = len(case.tokens) - 1
    i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")

    def change(layer, scores):
        for h in range(HEADS):
            scores[h, ~rule(layer, h, i, j) & (i >= rows_from) & (j <= i)] = float("-inf")
        return scores

    return with_scores(model, case.tokens[:n], change)[n - case.scored : n]


def simulate(model, batch, prompts, scheme):
    if scheme.prefill is not None:
        prompts = read_by(model, batch, scheme.prefill)
    logits, tally = decode(model, prompts, scheme)
    return told(logits, batch.cases), tally


def check(got, expected, tolerance=2e-5):
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= tolerance * (1 + float(expected.abs().max()))


def snap_votes(model, case, layer, window, kernel=7, per_kv=True, scores=None):
    """SnapKV's pooled votes by hand."""
    n = case.prefix
    p = (scores or plain_scores(model, case.tokens[:n]))[layer].softmax(-1)[:, n - window : n, : n - window].mean(1)
    p = p.view(KV, GROUP, -1).mean(1) if per_kv else p
    reach = kernel // 2
    return torch.stack(
        [p[:, max(0, j - reach) : j + reach + 1].max(-1).values for j in range(p.shape[1])], -1
    )  # fmt: skip


def test_the_full_cache_says_what_the_model_says(model, asked):
    batch, prompts, full = asked
    for case, own in zip(batch.cases, full, strict=True):
        plain = model(torch.tensor([case.tokens]))[0, -1 - case.scored : -1]
        check(own, plain)
    got, tally = simulate(model, batch, prompts, Scheme(lambda layer, seen: everything(seen)))
    for a, b in zip(got, full, strict=True):
        check(a, b)
    found = costs(model, tally, Scheme(lambda layer, seen: everything(seen)), 8, 4)
    assert all(c.kept == c.read == c.peak == c.prefill_share == 1.0 for c in found)
    case = batch.cases[0]
    last = len(case.tokens) - 1  # entries of a head when the last token is fed
    assert found[0].bytes == LAYERS * KV * last * 8 * 4
    assert found[0].paged_bytes == LAYERS * KV * -(-last // 16) * 16 * 8 * 4
    steps = [case.start + 1 + t for t in range(len(case.steps))]
    assert found[0].decode_flops == pytest.approx(2 * 8 * LAYERS * HEADS * np.mean(steps))
    assert all(q.kl < 1e-8 and q.agree == 1 and q.loss == pytest.approx(q.full_loss, abs=1e-5)
               for q in quality(batch.cases, got, full))  # fmt: skip


@pytest.mark.parametrize("budget", [0.2, 0.55])
@pytest.mark.parametrize("prefill", ["full", "streaming", "chunked"])
def test_duo_equals_a_dense_mask(model, asked, budget, prefill):
    batch, prompts, full = asked
    s = setting(budget, prefill)
    scheme = named("duo")[0].make(s)
    k, sink, recent = (scheme.constants[x] for x in ("full_heads", "sink", "recent"))
    kept = set(s.ranked[:k])
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):

        def rule(layer, h, i, j, case=case):
            seen = (j < sink) | (i - j < recent) | ((layer, h // GROUP) in kept)
            return seen | (i < case.start) & (j >= i // 16 * 16 - recent) if prefill == "chunked" else seen

        # a token that is decoded again was read by the rule of the prompt, but nobody sees that entry
        check(got[row], masked_run(model, case, rule, case.start if prefill == "full" else 0))
        assert float((got[row] - full[row]).abs().max()) > 1e-3
    shares = [c.kept for c in costs(model, tally, scheme, 8, 4)]
    assert all(share <= budget + 1e-9 for share in shares)


def test_razor_gives_dropped_keys_their_mean_score(model, asked):
    batch, prompts, full = asked
    s = setting(0.4)
    scheme = named("razor")[0].make(s)
    kept, window = set(s.ranked[: scheme.constants["full_heads"]]), scheme.constants["window"]
    got, _ = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):

        def change(layer, scores, case=case):
            for h in range(HEADS):
                if (layer, h // GROUP) not in kept:
                    dropped = list(range(4, case.prefix - window))
                    mean = scores[h, case.start :, dropped].mean(-1, keepdim=True)
                    scores[h, case.start :, dropped] = mean.expand(-1, len(dropped))
            return scores

        n = len(case.tokens) - 1
        check(got[row], with_scores(model, case.tokens[:n], change)[n - case.scored :])
        assert float((got[row] - full[row]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["snapkv", "adakv", "pyramidkv", "headkv"])
def test_observing_policies_equal_a_dense_mask(model, asked, name):
    batch, prompts, full = asked
    s = setting(0.45)
    scheme = named(name)[0].make(s)
    window, per_kv = scheme.constants["window"], name != "headkv"
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):
        keeps, plain = {}, plain_scores(model, case.tokens[: case.prefix])
        for layer in range(LAYERS):
            votes = snap_votes(model, case, layer, window, per_kv=per_kv, scores=plain)
            count = votes.shape[0]
            if name == "snapkv":
                most = [scheme.constants["capacity"] - window] * count
            elif name == "pyramidkv":
                most = [scheme.constants["capacities"][layer] - window] * count
            elif name == "headkv":
                most = prompts_budget(s, window)[layer]
            else:
                most = ada_budget(votes, scheme.constants["mean_capacity"] - window)
            for c in range(count):
                best = sorted(range(votes.shape[1]), key=lambda j: (-float(votes[c, j]), j))[: most[c]]
                keeps[layer, c] = set(best) | set(range(case.prefix - window, case.prefix))

        def rule(layer, h, i, j, case=case, keeps=keeps):
            kept = torch.tensor(sorted(keeps[layer, h // GROUP if per_kv else h]))
            return (j >= case.start) | torch.isin(j, kept)

        check(got[row], masked_run(model, case, rule, case.start))
        assert float((got[row] - full[row]).abs().max()) > 1e-3
        # entries by hand: what is kept of the prompt, and the decoded tokens
        held, caches = sum(len([j for j in k if j < case.start]) for k in keeps.values()), len(keeps)
        steps = [(held + caches * (1 + t)) / (LAYERS * KV * (case.start + 1 + t)) for t in range(len(case.steps))]
        assert costs(model, tally, scheme, 8, 4)[row].kept == pytest.approx(np.mean(steps))


def prompts_budget(s, window):
    """HeadKV's shares, where nobody's is more than the prompt: p · pool + the rest."""
    from workbench.policies.headkv import BETA, shares

    base = int(s.budget * s.tokens / GROUP) - window
    table = np.stack([s.scores[i] for i in range(LAYERS)])
    pool = int(base // BETA)
    wanted = table / table.sum() * pool * table.size + base - pool
    assert wanted.max() < s.tokens - window
    found = shares(table, base, s.tokens - window)
    np.testing.assert_allclose(found, wanted, atol=1.01)
    return found


def ada_budget(votes, mean):
    """Ada-KV by taking the best entry of the layer one at a time, beyond each head's floor."""
    c, n = votes.shape
    floor, order = int(0.2 * mean), votes.argsort(dim=-1, descending=True, stable=True)
    most = [floor] * c
    while sum(most) < c * mean:
        open_heads = [i for i in range(c) if most[i] < n]
        most[max(open_heads, key=lambda i: (float(votes[i, order[i, most[i]]]), -i))] += 1
    return most


def test_exact_top_keys_are_read_by_every_query_head(model, asked):
    batch, prompts, _ = asked
    scheme = named("topk")[0].make(setting(0.3))
    sink, local, top = (scheme.constants[x] for x in ("sink", "local", "top"))
    got, tally = simulate(model, batch, prompts, scheme)
    read = {}
    for row, case in enumerate(batch.cases):

        def change(layer, scores, case=case, row=row):
            for h in range(HEADS):
                for i in range(case.start, len(case.tokens) - 1):
                    always = {j for j in range(i + 1) if j < sink or i - j < local or j >= case.start}
                    others = sorted((j for j in range(i + 1) if j not in always), key=lambda j: -float(scores[h, i, j]))
                    seen = always | set(others[:top])
                    read.setdefault((row, layer, h // GROUP, i), set()).update(seen)
                    scores[h, i, [j for j in range(i + 1) if j not in seen]] = float("-inf")
            return scores

        n = len(case.tokens) - 1
        check(got[row], with_scores(model, case.tokens[:n], change)[n - case.scored :])
        steps = range(case.start, n)
        shares = [
            sum(len(v) for k, v in read.items() if k[0] == row and k[3] == i) / (LAYERS * KV * (i + 1)) for i in steps
        ]
        found = costs(model, tally, scheme, 8, 4)[row]
        assert found.read == pytest.approx(np.mean(shares)) and found.kept == 1.0


@pytest.mark.parametrize("name", ["longheads", "tokenselect"])
def test_reading_by_chunks_and_by_votes(model, asked, name):
    batch, prompts, full = asked
    scheme = named(name)[0].make(setting(0.4))
    c, got = scheme.constants, simulate(model, batch, prompts, scheme)[0]
    for row, case in enumerate(batch.cases):

        def best_chunks(scores, i, case=case):
            size, last = c["chunk"], (case.prefix - 1) // c["chunk"]
            chunks = {m: range(m * size, min((m + 1) * size, case.prefix)) for m in range(last + 1)}
            means = {m: float(scores[i, list(own)].mean()) for m, own in chunks.items() if m not in (0, last)}
            won = {0, last, *sorted(means, key=lambda m: -means[m])[: c["chunks"] - 2]}
            return {j for m in won for j in chunks[m]}

        def most_votes(scores, i, case=case):
            always = {j for j in range(case.start) if j < c["sink"] or i - j < c["local"]}
            votes = scores[:, i, : case.start].softmax(-1).sum(0)
            others = sorted(set(range(case.start)) - always, key=lambda j: -float(votes[j]))
            return always | set(others[: c["top"]])

        def change(layer, scores, case=case, best_chunks=best_chunks, most_votes=most_votes):
            plain = scores.clone()
            for h in range(HEADS):
                for i in range(case.start, len(case.tokens) - 1):
                    seen = best_chunks(plain[h], i) if name == "longheads" else most_votes(plain, i)
                    scores[h, i, [j for j in range(case.start) if j not in seen]] = float("-inf")
            return scores

        n = len(case.tokens) - 1
        check(got[row], with_scores(model, case.tokens[:n], change)[n - case.scored :])
        assert float((got[row] - full[row]).abs().max()) > 1e-3


def test_minference_narrows_the_prefill_alone(model, asked):
    batch, prompts, full = asked
    s = setting(0.5)
    scheme = named("minference")[0].make(s)
    k, sink, recent = (scheme.constants[x] for x in ("full_heads", "sink", "recent"))
    kept = set(s.ranked[:k])
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):

        def rule(layer, h, i, j, case=case):
            return (j < sink) | (i - j < recent) | (i >= case.start) | ((layer, h // GROUP) in kept)

        check(got[row], masked_run(model, case, rule, 0))
        assert float((got[row] - full[row]).abs().max()) > 1e-3
    found = costs(model, tally, scheme, 8, 4)[0]
    assert found.kept == found.read == 1.0 and 0.45 <= found.prefill_share <= 0.55


@pytest.mark.parametrize("prefill", ["streaming", "full"])
def test_streaming_counts_positions_in_the_cache(model, asked, prefill):
    batch, prompts, _ = asked
    scheme = named("streaming")[0].make(setting(0.35, prefill))
    sink, recent = scheme.constants["sink"], scheme.constants["recent"]
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):
        n = len(case.tokens) - 1
        check(
            got[row],
            renumbered(model, case, sink, recent, 0 if prefill == "streaming" else case.start)[n - case.scored :],
        )
        kept = costs(model, tally, scheme, 8, 4)[row].kept
        assert kept == pytest.approx(np.mean([(sink + recent) / (i + 1) for i in range(case.start, n)]))


def renumbered(model, case, sink, recent, rows_from):
    """Queries and keys taken before the rotation, and turned by their places in the cache, row by row."""
    n, before = len(case.tokens) - 1, {}
    half = torch.tensor([10000.0 ** (-2 * i / 4) for i in range(2)], dtype=torch.float64)

    def turn(x, places):
        angle = torch.as_tensor(places, dtype=torch.float64)[:, None] * half
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def take(which):
        def hook(x, hook):
            before[which] = x.reshape(n, -1, 4).double()

        return hook

    def change(scores, hook):
        new, q, k = scores[0].double().clone(), before["q"], before["k"]
        for i in range(rows_from, n):
            kept = [j for j in range(i + 1) if j < sink or i - j < recent]
            for h in range(HEADS):
                new[h, i] = float("-inf")
                turned = turn(k[kept, h // GROUP], range(len(kept)))
                new[h, i, kept] = turned @ turn(q[i : i + 1, h], [len(kept) - 1])[0] / 2
        return new[None].to(scores.dtype)

    hooks = [(f"blocks.{i}.attn.{name}", fn) for i in range(LAYERS)
             for name, fn in (("hook_q", take("q")), ("hook_k", take("k")), ("hook_attn_scores", change))]  # fmt: skip
    return model.bridge.run_with_hooks(torch.tensor([case.tokens[:n]]), fwd_hooks=hooks)[0]


def test_every_policy_meets_its_budget_or_says_that_it_cannot(model, asked):
    batch, prompts, _ = asked
    for name, policy in discover().items():
        for budget in (0.3, 0.6):
            scheme = policy.make(setting(budget, policy.prefills[0]))
            _, tally = simulate(model, batch, prompts, scheme)
            held = torch.stack([tally.prompt[layer] for layer in range(LAYERS)]).sum(0)
            if scheme.read is None and name != "minference":
                share = float(held[0]) / (min(LENGTHS) * LAYERS * KV)  # the budget counts at the shortest prompt
                assert budget - 0.08 <= share <= budget + 1e-9, name
    for policy in discover().values():
        with pytest.raises(TooTight):
            policy.make(setting(0.001))


def test_what_cannot_be_meant_is_one_line(model):
    with pytest.raises(BadInput, match="Did you mean 'razor'"):
        named("rasor")
    with pytest.raises(BadInput, match="full, streaming, chunked"):
        named("duo:windowed")
    with pytest.raises(BadInput, match="nothing is told"):
        Case((1, 2, 3), 3, 1)
    with wb.intervene(model, wb.mask([(0, 0)])), pytest.raises(Unsupported, match="plain model"):
        suits(model)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "qwen3"])
def test_other_positions_and_projections_say_the_same(kind, tmp_path):
    other, rng = wb.load(tiny_models.save(kind, tmp_path)), np.random.default_rng(1)
    batch = Batch.of([Case(tuple(rng.integers(3, 90, n).tolist()), n - 5, 4) for n in (30, 41)], other.device)
    prompts, full = read_whole(other, batch)
    for a, b in zip(
        simulate(other, batch, prompts, Scheme(lambda layer, seen: everything(seen)))[0], full, strict=True
    ):
        check(a, b)


def test_bfloat16_stays_near_float32(tmp_path):
    folder, rng = tiny_models.save("llama", tmp_path), np.random.default_rng(2)
    cases = [Case(tuple(rng.integers(3, 90, n).tolist()), n - 5, 4) for n in (66, 71)]
    found = []
    for dtype in ("float32", "bfloat16"):
        other = wb.load(folder, dtype)
        batch = Batch.of(cases, other.device)
        prompts, _ = read_whole(other, batch)
        found.append(simulate(other, batch, prompts, named("razor")[0].make(setting(0.4)))[0])
    for a, b in zip(*found, strict=True):
        assert b.dtype is torch.bfloat16 and float((a - b.float()).abs().mean()) < 0.05 * float(a.abs().mean()) + 0.02


def test_models_with_windows_are_refused(tmp_path):
    with pytest.raises(Unsupported, match="full attention in every layer"):
        suits(wb.load(tiny_models.save("mistral", tmp_path)))
