"""Statistics swept by several threads: equal to the reference, the same every time, in every mode of the caller."""

from __future__ import annotations

import pytest
import torch
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, attend, parallel, reference, sweep

B, H, G, N, D = 2, 6, 3, 37, 8


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(B, H, N, D) * 2, torch.randn(B, G, N, D), torch.randn(B, G, N, D)


def everything() -> Reductions:
    spans = torch.tensor([[[0, 3], [20, 30]], [[8, 8], [5, 36]]])
    return Reductions(
        lse=True, received=True, offsets=(1,), entropy=True, distance=True, thumbnail=6, spans=spans, top_k=2
    )  # fmt: skip


def compare(stats, z, expected, truth) -> None:
    torch.testing.assert_close(z.double(), truth, atol=2e-5, rtol=2e-5)
    for name in ("lse", "received", "at_offset", "entropy", "distance", "thumbnail", "mass", "top_values"):
        torch.testing.assert_close(getattr(stats, name).double(), getattr(expected, name), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("mode", ["grad", "no_grad", "inference"])
@pytest.mark.parametrize("edited", [False, True], ids=["plain", "edited"])
def test_threads_give_the_reference(mode: str, edited: bool, three_threads, monkeypatch):
    for name in ("ROWS", "FEWEST"):
        monkeypatch.setattr(sweep, name, 8)
    q, k, v = inputs()
    spec, want = AttentionSpec(scale=0.3, padding=torch.arange(N)[None] >= torch.tensor([[0], [5]])), everything()
    edits = HeadEdits(window=torch.tensor([[0, 4, 0, 0, 7, 0]]), sink=2) if edited else None
    assert len(sweep._portions(q, k)) == 3
    context = {"grad": torch.enable_grad(), "no_grad": torch.no_grad(), "inference": torch.inference_mode()}[mode]
    with context:
        z, stats = attend(q, k, v, spec, edits, want)
        again, more = attend(q, k, v, spec, edits, want)
    truth, expected = reference.attend(q, k, v, spec, edits, want)
    compare(stats, z, expected, truth)
    assert torch.equal(z, again) and torch.equal(stats.received, more.received)
    assert torch.equal(stats.distance, more.distance) and torch.equal(stats.thumbnail, more.thumbnail)
    assert torch.get_num_threads() == 3


def test_a_group_is_parted_where_cores_would_be_idle(three_threads):
    q, k, _ = inputs()
    assert [s.stop - s.start for s in sweep._portions(q, k[:, :1])] == [2, 2, 2]
    assert [s.stop - s.start for s in sweep._portions(q, k)] == [2, 2, 2]
    assert [s.stop - s.start for s in sweep._portions(q[:, :4], k[:, :1])] == [1] * 4  # four heads on three cores


def test_workers_use_one_core_each_and_later_threads_what_the_caller_has(three_threads):
    inside: list[int] = []
    parallel.run([lambda: inside.append(torch.get_num_threads())] * 12, torch.device("cpu"))
    assert inside == [1] * 12
    with parallel.ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 3


def test_an_exception_reaches_the_caller_and_ends_the_work(three_threads):
    begun: list[int] = []

    def fail() -> None:
        begun.append(1)
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        parallel.run([fail] * 50, torch.device("cpu"))
    assert len(begun) <= 3
    parallel.run([lambda: begun.append(2)] * 5, torch.device("cpu"))  # the threads are still there
    assert begun.count(2) == 5
