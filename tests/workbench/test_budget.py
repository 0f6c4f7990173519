"""Rows at a time: what a budget holds, what is refused, what happens where memory runs out in the middle."""

from __future__ import annotations

import errno
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
from plain_patching import RIGHT, prompts
from plain_retrieval import check, random_case

import workbench as wb
from workbench import probes
from workbench.budget import FewerRows, RanOut, budget_of, in_parts
from workbench.errors import TooLarge
from workbench.footprint import forward_bytes
from workbench.interventions import mask
from workbench.masked_recall import exact_recall
from workbench.observation import observe, observing
from workbench.patching import activation_effects, attribution_effects, edge_effects, path_effects
from workbench.probes import decoding
from workbench.probes.retrieval import score_block
from workbench.sizes import amount, bytes_of


def nobody(memory=None):
    return SimpleNamespace(memory=memory, ceilings={}, device=torch.device("cpu"))


def rows_of(slices):
    return [s.stop - s.start for s in slices]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


@pytest.mark.parametrize(
    ("memory", "fixed", "most", "want"),
    [
        (35, 0, None, [3, 3, 1]), (35, 6, None, [2, 2, 2, 1]), (35, 0, 2, [2, 2, 2, 1]), ("70B", 0, None, [7]),
        (10, 0, 9, [1] * 7),
    ],
)  # fmt: skip
def test_a_budget_holds_so_many_rows(memory, fixed, most, want):
    assert rows_of(in_parts(nobody(), "work", 7, 10, lambda s: s, memory, fixed, most)) == want
    assert rows_of(in_parts(nobody(memory), "work", 7, 10, lambda s: s, None, fixed, most)) == want


def test_without_a_budget_one_row_is_tried_all_the_same():
    assert rows_of(in_parts(nobody(), "work", 3, 10 * budget_of(nobody()), lambda s: s)) == [1, 1, 1]
    assert rows_of(in_parts(nobody(), "work", 0, 10, lambda s: s)) == [0], "an empty batch is worked on, too"


@pytest.mark.parametrize("least", [1, 999, 1234, 12_345_678, 10**10 + 1])
def test_too_small_a_budget_names_the_least_that_works(least):
    with pytest.raises(TooLarge, match="^work: .* for one row, more than .*: raise memory= to ") as caught:
        in_parts(nobody(), "work", 2, least - 1, lambda s: s, max(1, least - 1), 1 + (least == 1))
    said = str(caught.value).split("raise memory= to ")[1].split(",")[0]
    in_parts(nobody(), "work", 2, least - 1, lambda s: s, said, 1)
    assert bytes_of(said) < 1.2 * least + 2 and "\n" not in str(caught.value)
    assert bytes_of(amount(least)) >= least


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("MPS backend out of memory (…)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("Invalid buffer size: 58.00 GiB"), OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("unable to mmap 16 bytes from file <x>: Cannot allocate memory (12)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    ],
)  # fmt: skip
def test_where_memory_runs_out_half_of_the_rows_go_on_and_it_is_said_once(error):
    def work(rows):
        if rows.stop - rows.start > 3:
            raise error
        return rows

    model = nobody()
    with pytest.warns(FewerRows, match="work: memory ran out on cpu with 16 rows at a time; going on with 8") as said:
        done = in_parts(model, "work", 19, 10, work, memory=160)
    assert rows_of(done) == [2] * 9 + [1] and len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows_of(in_parts(model, "work", 3, 10, work)) == [2, 1], "it is remembered"
        assert rows_of(in_parts(model, "work", 3, 5, work)) == [3], "as bytes: smaller rows may be more"
    with pytest.raises(RanOut, match="memory ran out on cpu with one row at a time: give shorter prompts"):
        in_parts(model, "work", 2, 10, lambda rows: (_ for _ in ()).throw(error))
    with pytest.raises(RanOut):
        in_parts(model, "work", 0, 10, lambda rows: (_ for _ in ()).throw(error))
    with pytest.raises(ZeroDivisionError):
        in_parts(model, "work", 2, 10, lambda rows: 1 / 0)
    with pytest.raises(TooLarge, match="no room"):
        in_parts(model, "work", 2, 10, lambda rows: (_ for _ in ()).throw(TooLarge("no room")))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"), RuntimeError("expected a buffer"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm(handle)`"),
    ],
)  # fmt: skip
def test_other_faults_are_raised(error):
    with pytest.raises(type(error)) as caught:
        in_parts(nobody(), "work", 4, 10, lambda rows: (_ for _ in ()).throw(error))
    assert caught.value is error


def test_none_at_a_time_is_one():
    assert rows_of(in_parts(nobody(), "work", 2, 10, lambda s: s, most=0)) == [1, 1]


def test_slices_that_take_the_place_of_one_end_where_it_ended():
    """Work that had done a part of it, as a simulation has of its policies, would else do rows twice."""
    done: list[int] = []

    def work(rows):
        if not done:
            done.extend(range(rows.start, rows.stop))
        if rows.stop - rows.start > 2:
            raise MemoryError
        if rows.stop > len(done):
            done.extend(range(rows.start, rows.stop))
        return rows

    with pytest.warns(FewerRows):
        assert rows_of(in_parts(nobody(), "work", 11, 1, work, most=5)) == [2, 2, 1, 2, 2, 2]
    assert done == list(range(11))


def many_probes(n):
    """Every kind of statistic, some with positions of their own in every row."""
    labels = torch.randint(0, 4, (5, n), generator=torch.Generator().manual_seed(8))
    columns = [[n - 2 - i, n - 1] for i in range(5)]
    return [
        probes.received(), probes.entropy(), probes.entropy(reduce="mean", name="mean"), probes.thumbnail(4),
        probes.top_keys(3, rows=columns), probes.mass([[(n - 5 - i, n - 2)] for i in range(5)]), probes.even(),
        probes.held([[n - 3 - i] for i in range(5)]), probes.moments(), probes.profile(), probes.massive(),
        probes.matched(labels, labels[:, None]), probes.resid_norms(), probes.key_norms(), probes.receivers(3),
        probes.phi([1, 2]), probes.region((n - 6, n), (n - 9, n), 3),
    ]  # fmt: skip


def flat(found):
    for name in found:
        value = found[name]
        yield from (
            [(name, value)] if isinstance(value, torch.Tensor) else ((f"{name}.{i}", x) for i, x in enumerate(value))
        )


@pytest.mark.parametrize("pad", [None, "left", "right"])
def test_a_batch_observed_in_parts_is_the_batch(pad, llama, narrow):
    n, random = 24, torch.Generator().manual_seed(4)
    x, text = torch.randint(3, 97, (5, n), generator=random), None
    if pad is not None:
        text = torch.arange(n)[None] >= torch.tensor([[0], [3], [0], [9], [1]])
        text = text if pad == "left" else text.flip(1)
    asked = many_probes(n) if pad != "right" else [probes.received(), probes.entropy(), probes.lse(), probes.even()]
    whole, went = observe(llama, x, asked, text), narrow(llama, 3)
    with pytest.warns(FewerRows, match="observe: memory ran out on cpu with 5 rows at a time; going on with 2"):
        parts = observe(llama, x, asked, text)
    assert went == [2, 2, 1]
    for (name, a), (_, b) in zip(flat(parts), flat(whole), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6, equal_nan=True, msg=lambda m, name=name: f"{name}: {m}")


def test_a_budget_parts_the_batch_and_the_least_is_said(llama, narrow):
    x = torch.randint(3, 97, (6, 40), generator=torch.Generator().manual_seed(5))
    whole, went = observe(llama, x, [probes.received()])["received"], narrow(llama, 99)
    with pytest.raises(TooLarge, match="observe: .* for one row, more than 50kB: raise memory= to ") as caught:
        observe(llama, x, [probes.received()], memory=50_000)
    least = str(caught.value).split("raise memory= to ")[1].split(",")[0]
    torch.testing.assert_close(observe(llama, x, [probes.received()], memory=least)["received"], whole)
    assert went == [1] * 6
    with pytest.raises(TooLarge, match="received: .*limit 1kB: choose rows"):
        observe(llama, x, [probes.received()], memory="1kB")


def test_rows_that_somebody_else_counts_on_stay_together(llama, narrow):
    x = torch.randint(3, 97, (4, 24), generator=torch.Generator().manual_seed(6))
    went = narrow(llama, 99)
    small = 2 * forward_bytes(llama, 24)
    cases = [wb.intervene(llama, mask([(1, 2)])), observing(llama, [probes.received()])]
    cases.append(
        llama.bridge.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda resid, hook: resid + torch.ones(4, 1, 1))])
    )
    for company in cases:
        with company:
            with pytest.raises(TooLarge, match="needed for 4 rows that stay together, .* shorter or fewer prompts"):
                observe(llama, x, [probes.lse()], memory=small)
            observe(llama, x, [probes.lse()])
    with pytest.raises(TooLarge):
        observe(llama, x, [probes.entropy(reduce="mean", over="batch")], memory=small)
    assert went == [4, 4, 4]
    narrow(llama, 3)
    together = "with 4 rows that stay together: give shorter or fewer prompts"
    with wb.intervene(llama, mask([(1, 2)])), pytest.raises(RanOut, match=together):
        observe(llama, x, [probes.lse()])


PATCHED = {
    "paths": lambda model, memory=None: path_effects(
        model, *prompts(), [("q", 2, 1), ("v", 1, 0), ("mlp", 1)], 6, attention_mask=RIGHT, memory=memory
    ),
    "direct paths": lambda model, memory=None: path_effects(model, *prompts(), senders="mlps", memory=memory),
    "activations": lambda model, memory=None: activation_effects(model, *prompts(), attention_mask=RIGHT, memory=memory),
    "attribution": lambda model, memory=None: attribution_effects(model, *prompts(), steps=2, memory=memory),
    "edges": lambda model, memory=None: edge_effects(model, *prompts(), 1, memory=memory).values,
}  # fmt: skip


@pytest.mark.parametrize("name", PATCHED)
def test_patching_goes_on_with_fewer_prompts(name, llama, narrow):
    """In float32, so that parts are equal up to rounding."""
    whole = PATCHED[name](llama)
    went = narrow(llama, 2)
    with pytest.warns(FewerRows):
        torch.testing.assert_close(PATCHED[name](llama), whole, rtol=1e-4, atol=2e-5, equal_nan=True)
    assert went and max(went) <= 2
    with pytest.raises(TooLarge, match="for one row, more than 20kB: raise memory= to") as caught:
        PATCHED[name](llama, memory=20_000)
    least = str(caught.value).split("raise memory= to ")[1].split(",")[0]
    torch.testing.assert_close(PATCHED[name](llama, memory=least), whole, rtol=1e-4, atol=2e-5, equal_nan=True)


def test_senders_are_halved_before_prompts(llama, monkeypatch):
    from workbench.patching.chain import Chain

    whole, seen, run = PATCHED["paths"](llama), [], Chain.run

    def spy(self, senders, places, read):
        if len(senders) * len(self.reads[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append((len(senders), len(self.reads[0])))
        return run(self, senders, places, read)

    monkeypatch.setattr(Chain, "run", spy)
    with pytest.warns(FewerRows, match="senders of path patching: memory ran out .* with 16 rows"):
        torch.testing.assert_close(PATCHED["paths"](llama), whole, rtol=1e-4, atol=2e-5)
    assert {rows for _, rows in seen} == {3} and max(n for n, _ in seen) == 1


def test_masked_variants_go_on_with_fewer(llama, narrow):
    model = wb.load("planted-copy")
    from workbench.tasks.needle import Assembler, blocks

    samples = next(blocks(Assembler(model.tokenizer), [96], [20.0, 60.0], 1, 3)).samples
    lists = [((0, h),) for h in range(model.n_heads)] + [((1, h),) for h in range(model.n_heads)]
    whole, went = exact_recall(model, samples, lists, mask, 8), narrow(model, 3)
    with pytest.warns(FewerRows, match="masked variants"):
        np.testing.assert_array_equal(exact_recall(model, samples, lists, mask, 8), whole)
    assert max(went) <= 3 and whole.min() == 0 and whole.max() == 1


def test_decoding_goes_on_with_fewer_answers(tmp_path, monkeypatch):
    """Memory runs out after some steps: tokens are kept, caches are not."""
    case = random_case("llama", tmp_path)
    forward, tried = case.model.forward, []

    def spy(tokens, attention_mask=None, **options):
        tried.append(len(tokens))
        if len(tokens) > 2 and tried.count(len(tokens)) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(tokens, attention_mask, **options)

    monkeypatch.setattr(case.model, "forward", spy)
    with pytest.warns(FewerRows, match="decoding: memory ran out"):
        scores = score_block(case.model, case.block, case.stops)
    assert check(case, scores) >= 5 and max(tried) > 2
    case.model.memory = 1000
    with pytest.raises(TooLarge, match="needles: .* are needed for one row"):
        score_block(case.model, case.block, case.stops)


def test_an_answer_that_had_ended_is_not_asked_again(tmp_path, monkeypatch):
    """Its last token would count twice among near ties: here every token is one."""
    case = random_case("llama", tmp_path)
    monkeypatch.setattr(decoding, "TIE", 1e9)
    stops = {score_block(case.model, case.block, set())[0].response[1]}  # one answer ends at its second token
    whole, forward, wide = score_block(case.model, case.block, stops), case.model.forward, []

    def spy(tokens, attention_mask=None, **options):
        wide.extend([len(tokens)] * (len(tokens) > 2))
        if len(tokens) > 2 and len(wide) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(tokens, attention_mask, **options)

    monkeypatch.setattr(case.model, "forward", spy)
    with pytest.warns(FewerRows, match="decoding: memory ran out"):
        parts = score_block(case.model, case.block, stops)
    assert [s.response for s in parts] == [s.response for s in whole]
    assert [s.ties.near_tokens for s in parts] == [s.ties.near_tokens for s in whole]
    assert min(len(s.response) for s in whole) < 2 < max(len(s.response) for s in whole)


def test_a_simulation_goes_on_with_fewer_prompts(narrow, tmp_path, capsys):
    from workbench.heads import HeadScores

    model = wb.load("llama")
    scores = HeadScores(np.random.default_rng(3).random((4, 16)), "random")
    asked = {
        "heads": str(wb.write_scores(scores, tmp_path / "scores.json")), "policy": ("duo", "adakv"), "budgets": (0.3,),
        "context": 128, "samples": 5, "texts": 1, "depths": (10.0,), "batch": 5, "draws": 1, "published": False,
        "tasks": ("none",),
    }  # fmt: skip
    simulate = wb.analyses.kv_policies.simulate
    whole = simulate(model, **asked)
    went = narrow(model, 2)
    parts = simulate(model, **asked)
    assert max(went) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]
    assert said == ["note: simulation: memory ran out on cpu with 5 rows at a time; going on with 2 at most"]
    with pytest.raises(TooLarge, match="simulation: .* for one row, more than 300kB: raise memory= to") as caught:
        simulate(model, **asked, memory="300kB")
    least = str(caught.value).split("raise memory= to ")[1].split(",")[0]
    went.clear()
    small = simulate(model, **asked, memory=least)
    assert max(went) == 1 and model.memory is None and small.config.memory == least
    np.testing.assert_allclose(
        small.points[0].quality["needle"], whole.points[0].quality["needle"], rtol=1e-4, atol=1e-5
    )
    for a, b in zip(parts.points, whole.points, strict=True):
        assert a.quality.keys() == b.quality.keys() and len(a.quality["needle"]) == 5
        for kind in a.quality:
            np.testing.assert_allclose(a.quality[kind], b.quality[kind], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(a.costs[kind], b.costs[kind], rtol=1e-9)
        assert a.controls == b.controls


def test_a_fit_of_windows_goes_on_with_fewer_prompts(narrow, capsys):
    """Both of its stages: errors of every window, and the check of every rule, none of whose cases is asked twice."""
    model = wb.load("planted-copy")
    asked = {
        "context": 128, "prompts": 4, "samples": 5, "texts": 2, "depths": (0, 40), "draws": 2, "beside": (), "batch": 5,
    }  # fmt: skip
    whole = wb.analyses.fit_windows.fit(model, **asked, out=None)
    went = narrow(model, 2)
    parts = wb.analyses.fit_windows.fit(model, **asked, out=None)
    assert max(went) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]
    assert said == ["note: simulation: memory ran out on cpu with 4 rows at a time; going on with 2 at most"]
    for kind, errors in whole.errors.items():
        np.testing.assert_allclose(parts.errors[kind], errors, rtol=1e-4, atol=1e-6)
    for a, b in zip(parts.checks, whole.checks, strict=True):
        assert sorted(map(len, a.point.quality.values())) == [2, 5]
        np.testing.assert_allclose(a.dealt, b.dealt, rtol=1e-3, atol=1e-5)
        for kind in a.point.quality:
            np.testing.assert_allclose(a.point.quality[kind], b.point.quality[kind], rtol=1e-3, atol=1e-5)
