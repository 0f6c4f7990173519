"""calibrate without keys: what the rule finds and does, against a naive float64 loop over eager patterns; caches."""

from __future__ import annotations

import copy
import functools
import json

import numpy as np
import pytest
import tiny_models
import torch

import workbench as wb
from workbench.errors import BadInput
from workbench.interventions import Edit
from workbench.interventions.memory import recall
from workbench.probes.caches import copy_cache, keep_rows, merge_caches
from workbench.reference_models.catalogue import PLANTED
from workbench.reference_models.recipes import grammar
from workbench.sinks import SinkRule, prompt_sinks

KINDS = ["llama", "qwen3", "mistral", "gemma2", "gpt2", "gpt_neox", "gpt_oss"]
HEADS = [(0, 1), (0, 2), (1, 3), (1, 6), (2, 0)]
N, START = 26, [17, 20]
A, BETA = 1.6, 0.3
calibrate = functools.partial(wb.calibrate, rule="paper")


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return wb.load(tiny_models.save(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


def tokens(b: int = 2, n: int = N, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 97, (b, n), generator=torch.Generator().manual_seed(seed))


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 2e-5) -> None:
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def naive_sinks(p: np.ndarray, valid: list[int], start: int, sees, exempt: set[int], a: float, absolute) -> list[int]:
    """Keys of one head's pattern that receive more than their share from the valid queries that see them."""
    text = [i for i in valid if i <= start]
    out = []
    for k in text:
        queries = [q for q in text if sees(q, k)]
        received = sum(p[q, k] for q in queries) / len(queries)
        level = a / len(text) if absolute is None else absolute
        assert abs(received - level) > 1e-5, "too near to tell in float32: take another seed"
        if received > level and k not in exempt:
            out.append(k)
    return out


def naive(p: np.ndarray, sinks: list[int], exempt: set[int], others: bool, rows: list[int], beta: float) -> np.ndarray:
    """One head's pattern, calibrated in some rows."""
    new = p.copy()
    away = set(sinks) | (exempt if others else set())
    for q in rows:
        receivers = [k for k in range(p.shape[1]) if k not in away]
        mass, freed = sum(p[q, k] for k in receivers), (1 - beta) * sum(p[q, k] for k in sinks)
        if mass > 0:
            for k in sinks:
                new[q, k] *= beta
            for k in receivers:
                new[q, k] *= 1 + freed / mass
    return new


@torch.no_grad()
def plainly(model, x, mask, at: str, exempt=(0,), receivers="others", absolute=None):
    """Logits of the bridge with the rule as hooks on its patterns, and what was found by (batch row, layer, head)."""
    found = {}
    window = getattr(model.config, "sliding_window", None)
    kinds = getattr(model.config, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * 3

    def hook(p, hook):
        layer, p = hook.layer(), p.clone()
        reach = window if kinds[layer] == "sliding_attention" else N
        for b, start in enumerate(START):
            valid = mask[b].nonzero().flatten().tolist()
            away = {valid[0] + e for e in exempt}
            rows = [q for q in range(N) if at == "both" or (q >= start) == (at == "decode")]
            for h in (h for where, h in HEADS if where == layer):
                one = p[b, h].double().numpy()
                sees = lambda q, k, reach=reach: q - reach < k <= q  # noqa: E731
                sinks = naive_sinks(one, valid, start, sees, away, A, absolute)
                found[b, layer, h] = sinks
                p[b, h] = torch.from_numpy(naive(one, sinks, away, receivers == "others", rows, BETA)).to(p)
        return p

    hooks = [(f"blocks.{i}.attn.hook_pattern", hook) for i in range(3)]
    logits = model.bridge.run_with_hooks(x, fwd_hooks=hooks, attention_mask=mask.long())
    return logits, found


CASES = {
    "left": {}, "right": {"at": "prefill"}, "none": {"at": "decode"}, "left all": {"receivers": "all", "exempt": (0, 2)},
    "none absolute": {"absolute": 0.12, "exempt": ()},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_rule_is_that_of_a_loop_over_eager_patterns(model, case: str):
    x, given = tokens(seed=11), {"at": "both", "exempt": (0,), "receivers": "others", "absolute": None} | CASES[case]
    pad, j = torch.tensor([[0], [4]]), torch.arange(N)[None]
    mask = {"left": j >= pad, "right": j < N - pad, "none": j >= 0 * pad}[case.split()[0]]
    theirs, found = plainly(model, x, mask, **given)
    a = {"a": A} if given["absolute"] is None else {"absolute": given["absolute"]}
    edit = calibrate(HEADS, BETA, exempt=given["exempt"], receivers=given["receivers"], at=given["at"], **a)
    ours = model.forward(x, mask, edits=edit, decode_from=START).logits
    close(ours[mask], theirs[mask])
    assert len({tuple(s) for s in found.values()}) > 3, "heads and rows must differ"
    plain = model(x, mask)
    assert (ours - plain)[mask].abs().max() > 1e-3 * plain.abs().max(), "the edit did nothing"
    cached = model.forward(x[:, :22], mask[:, :22], edits=edit, decode_from=START, use_cache=True)
    memory = recall(cached.cache, 22)
    for (b, layer, h), sinks in found.items():
        mine = memory.found[layer, h, edit.finder][b].nonzero().flatten().tolist()
        first = int(mask[b].int().argmax())
        assert [k for k in mine if k - first not in given["exempt"]] == sinks


@pytest.mark.parametrize("at", ["prefill", "decode", "both"])
@torch.no_grad()
def test_teacher_forced_equals_prefill_and_cached_decode(model, at: str):
    x, edit = tokens(seed=3), calibrate(HEADS, BETA, a=A, at=at)
    whole = model.forward(x, edits=edit, decode_from=[15]).logits
    step = model.forward(x[:, :16], edits=edit, decode_from=[15], use_cache=True)
    parts, cache = [step.logits], step.cache
    for i in range(16, N):
        parts.append(model.forward(x[:, i : i + 1], edits=edit, decode_from=[15], cache=cache).logits)
    close(torch.cat(parts, 1), whole)
    plain = model(x)
    assert (whole - plain).abs().max() > 1e-3 * plain.abs().max()


@torch.no_grad()
def test_generations_begin_anew(model):
    edit, one, other = calibrate(HEADS, 0.0, a=A), tokens(1, 14, 1), tokens(1, 17, 2)
    with wb.intervene(model, edit):
        first, second = (model.generate(x, 10, stop=[]) for x in (one, other))
        text = other
        for _ in range(10):
            text = torch.cat([text, model.forward(text, decode_from=[16]).logits[:, -1:].argmax(-1)], 1)
    assert second.tolist() == text[:, 17:].tolist()
    for x, said in ((one, first), (other, second)):
        with wb.intervene(model, edit):
            assert model.generate(x, 10, stop=[]).tolist() == said.tolist()
    assert not model.edits


@torch.no_grad()
def test_left_padding_changes_nothing(model):
    x, edit = tokens(1, 20), calibrate(HEADS, BETA, a=A)
    alone = model.forward(x, edits=edit).logits
    both = torch.cat([torch.cat([torch.zeros(1, 6, dtype=torch.long), x], 1), tokens(1, 26, 5)])
    keep = torch.arange(26)[None] >= torch.tensor([[6], [0]])
    padded = model.forward(both, keep, edits=edit).logits
    close(padded[:1, 6:], alone)
    close(padded[1:], model.forward(both[1:], edits=edit).logits)


@torch.no_grad()
def test_other_edits_of_the_head_come_first(llama):
    """A window hides keys and set_pattern writes rows before the rule looks; a bias of another head does not matter."""
    x, heads = tokens(seed=4), [(1, 3)]
    lines = wb.set_pattern(heads, tuple(range(8, N)), (5, 6), [0.9, 0.1])
    seen = llama.forward(x, edits=lines + calibrate(heads, 0.0, absolute=0.5, exempt=())).logits
    close(seen, llama.forward(x, edits=lines + calibrate(heads, 0.0, keys=(5,), exempt=())).logits)
    hidden = wb.window(heads, sink=0, recent=4) + calibrate(heads, 0.3, a=A)
    found = recall(llama.forward(x, edits=hidden, use_cache=True).cache, N).found
    plain = recall(llama.forward(x, edits=hidden.edits[1], use_cache=True).cache, N).found
    assert list(found) == list(plain) and any(not torch.equal(found[k], plain[k]) for k in found)


@torch.no_grad()
def test_rows_have_their_own_rules(llama):
    x = tokens(1).expand(3, -1)
    edits = [calibrate(HEADS, 0.2, a=A), wb.scale([(0, 1)], 0.5), calibrate([(1, 3)], 0.6, a=2)]
    together = llama.forward(x, edits=edits).logits
    for i, edit in enumerate(edits):
        close(together[i : i + 1], llama.forward(x[:1], edits=edit).logits)


@torch.no_grad()
def test_a_user_hook_on_the_pattern_changes_nothing_of_it(model):
    x, edit = tokens(seed=6), calibrate(HEADS, BETA, a=A, at="decode") + wb.scale([(1, 3)], 0.5, at="prefill")
    fused = model.forward(x, edits=edit, decode_from=[12]).logits
    with model.bridge.hooks(fwd_hooks=[(f"blocks.{i}.attn.hook_pattern", lambda p, hook: p) for i in range(2)]):
        close(model.forward(x, edits=edit, decode_from=[12]).logits, fused)


@torch.no_grad()
def test_branches_of_a_cache_keep_what_was_found(llama):
    x, edit = tokens(2, 16, seed=8), calibrate(HEADS, BETA, a=A)
    new = tokens(2, 1, 9)
    start = {"edits": edit, "decode_from": [15]}

    def filled():
        return llama.forward(x, use_cache=True, **start).cache

    said = llama.forward(new, cache=filled(), **start).logits
    for branch in (copy.deepcopy, lambda c: copy_cache(llama, c, 16)):
        cache = filled()
        close(llama.forward(new, cache=branch(cache), **start).logits, said)
        close(llama.forward(new, cache=cache, **start).logits, said)
    cut = copy_cache(llama, filled(), 12)
    assert all(flags.shape == (2, 12) for flags in recall(cut, 12).found.values())
    swapped = filled()
    keep_rows(swapped, torch.tensor([1, 0, 1]))
    close(llama.forward(new[[1, 0, 1]], cache=swapped, **start).logits, said[[1, 0, 1]])
    alone = [llama.forward(x[i : i + 1], use_cache=True, **start).cache for i in range(2)]
    room = merge_caches(llama, alone, [16, 13], 4)
    mask = torch.arange(17)[None] >= torch.tensor([[0], [3]])
    merged = llama.forward(new, mask, cache=room, **start).logits
    short = copy_cache(llama, llama.forward(x[1:], use_cache=True, **start).cache, 13)
    close(merged[:1], said[:1])
    close(merged[1:], llama.forward(new[1:], cache=short, **start).logits)
    plain = llama.forward(x, use_cache=True).cache
    with pytest.raises(BadInput, match="begin the text under the edit"):
        llama.forward(new, cache=plain, **start)
    other = filled()
    other.reorder_cache(torch.tensor([0]))
    with pytest.raises(BadInput, match="keep_rows"):
        llama.forward(new[:1], cache=other, **start)
    cropped = filled()
    cropped.crop(-6)
    llama.forward(x[:, 10:], cache=cropped, **start)
    assert not any(flags[:, 10:].any() for flags in recall(cropped, 16).found.values())


@pytest.fixture(scope="module")
def parking():
    model = wb.load("planted-sink")
    text = " ".join(grammar.prose(np.random.default_rng(5), 300))
    return model, model.tokens(text)[:, :300]


@torch.no_grad()
def test_planted_sinks_are_found_and_nothing_else(parking):
    model, x = parking
    stop = x[0].tolist().index(grammar.INDEX["."])
    roles = PLANTED["planted-sink"].roles
    heads = [(layer, head) for layer in range(3) for head in range(8)]
    places = {"sink-bos": [0], "sink-bos-value": [0], "sink-later": [stop]}

    def found(**rule):
        edit = calibrate(heads, 1.0, **rule)
        flags = recall(model.forward(x, edits=edit, use_cache=True).cache, x.shape[1]).found
        return {(layer, head): f[0].nonzero().flatten().tolist() for (layer, head, _), f in flags.items()}

    strict, paper = found(absolute=0.3), found()
    for role, where in places.items():
        assert {tuple(strict[head]) for head in roles[role]} == {tuple(where)}, role
        only = set(roles[role]) - set(roles["copy"])  # a copy head looks elsewhere, too
        assert {tuple(paper[head]) for head in only} == {tuple(where)}, role
    assert len(strict) == 24 and all(strict[head] == [] for head in roles["uniform"])
    assert len(paper[roles["self"][0]]) > 20, "the paper's rule flags late keys: said where it is documented"
    corrected = found(rule="corrected")
    for role, where in places.items():
        assert {tuple(corrected[head]) for head in roles[role]} == {tuple(where)}, role
    parks = {head for role in places for head in roles[role]}
    assert all(corrected[head] == [] for head in heads if head not in parks)


@torch.no_grad()
def test_the_corrected_rule_is_that_of_a_loop(llama):
    """On the eager pattern, in float64, by the definition; the same as in a pass without edits."""
    x, pads = tokens(2, 90, seed=21), [0, 7]
    mask = torch.arange(90)[None] >= torch.tensor(pads)[:, None]
    patterns = {}
    hooks = [
        (f"blocks.{i}.attn.hook_pattern", lambda p, hook: patterns.__setitem__(hook.layer(), p.double()))
        for i in range(3)
    ]
    llama.bridge.run_with_hooks(x, fwd_hooks=hooks, attention_mask=mask.long())
    rule, sinks = SinkRule(a=1.15), []
    edit = wb.calibrate(HEADS, BETA, a=1.15)
    memory = recall(llama.forward(x, mask, edits=wb.calibrate([(2, 0)], a=1.15), use_cache=True).cache, 90)
    before = prompt_sinks(llama, [row[pad:].tolist() for row, pad in zip(x, pads, strict=True)], rule)
    for b, pad in enumerate(pads):
        n = 90 - pad
        for h in range(8):
            p = patterns[2][b, h, pad:, pad:].numpy()
            mine = corrected_sinks(p, 1.15)
            sinks.append(mine)
            assert before[2, b, h].nonzero().flatten().tolist() == [pad + k for k in mine]
        assert memory.found[2, 0, rule][b].nonzero().flatten().tolist() == [pad + k for k in sinks[-8]], n
    assert sum(map(len, sinks)) > 3 and len({tuple(s) for s in sinks}) > 3
    with_hook = llama.forward(x, mask, edits=edit).logits
    with llama.bridge.hooks(fwd_hooks=[(f"blocks.{i}.attn.hook_pattern", lambda p, hook: p) for i in range(3)]):
        close(llama.forward(x, mask, edits=edit).logits[mask], with_hook[mask])
    assert not torch.equal(with_hook, llama(x, mask))


def corrected_sinks(p: np.ndarray, a: float) -> list[int]:
    """The definition, key by key."""
    n, out = len(p), []
    for k in range(n):
        queries = n - k
        alpha, even = p[k:, k].mean(), np.mean([1 / (q + 1) for q in range(k, n)])
        holding = np.mean([p[q, k] > 1 / (q + 1) for q in range(k, n)])
        level = max(a * even, even + 1 / queries)
        assert abs(alpha - level) > 1e-6, "too near to tell: take another seed"
        if queries >= max(32, n / 8) and alpha > level and holding >= 0.5:
            out.append(k)
    return out


@torch.no_grad()
def test_heads_without_a_sink_are_not_touched(parking, llama):
    model, x = parking
    roles = PLANTED["planted-sink"].roles
    assert torch.equal(model.forward(x, edits=calibrate(roles["uniform"], 0.0, a=10)).logits, model(x))
    parked = model.forward(x, edits=calibrate(roles["sink-bos"], 0.0, a=10)).logits
    assert torch.equal(parked, model(x)), "the first token is exempt"
    changed = model.forward(x, edits=calibrate(roles["sink-later"], 0.0, a=10)).logits
    assert (changed - model(x)).abs().max() > 0.1
    y = tokens()
    assert torch.equal(llama.forward(y, edits=calibrate(HEADS, 0.0, a=N)).logits, llama(y))
    close(llama.forward(y, edits=calibrate(HEADS, 1.0, a=A)).logits, llama(y), 1e-6)


def test_a_scan_under_the_rule_is_plain_decoding(parking):
    """Haystacks are not shared and caches not cut: another text has other sinks."""
    from workbench.probes.caches import can_roll_back
    from workbench.probes.retrieval import decoding_agreement, score_block, score_samples
    from workbench.tasks.needle import Assembler, answer_ends, blocks

    model, _ = parking
    block = next(blocks(Assembler(model.tokenizer), [128], [50.0], 2, 5))
    stops = answer_ends(model.tokenizer, model.stop_tokens)
    assert can_roll_back(model)
    with wb.intervene(model, calibrate(PLANTED["planted-sink"].roles["sink-later"], 0.2, a=10)):
        assert not can_roll_back(model)
        agreeing, n = decoding_agreement(model, block.samples, stops)
        shared, alone = score_block(model, block, stops), score_samples(model, block.samples, stops)
    assert agreeing == n and [s.response for s in shared] == [s.response for s in alone]


def test_json_and_bad_input():
    edit = calibrate(HEADS, 0.2, a=3, exempt=(0, 1), receivers="all", at="decode")
    again = Edit.from_json(json.loads(json.dumps(edit.to_json())))
    assert again == edit and again.finder == edit.finder
    fixed = calibrate(HEADS, absolute=0.1)
    assert Edit.from_json(json.loads(json.dumps(fixed.to_json()))) == fixed
    given = calibrate(HEADS, keys=[(1, 2), (3,)])
    assert Edit.from_json(json.loads(json.dumps(given.to_json()))) == given and given.finder is None
    for bad, said in [
        ({"a": 3, "absolute": 0.1}, "two rules"),
        ({"a": -1}, "a=-1"),
        ({"keys": (5,), "a": 3}, "rule that"),
    ]:
        with pytest.raises(BadInput, match=said):
            calibrate(HEADS, **bad)
