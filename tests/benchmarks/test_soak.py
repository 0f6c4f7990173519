"""Short forms of soak and load: handles and threads do not grow, scans beside each other do not meet."""

from __future__ import annotations

import pytest

from . import load, soak


def test_scans_let_go_of_files_and_threads():
    """What the first one opens may stay open; the others open nothing."""
    found = soak.soak(6)
    for name in ("files", "threads", "tasks"):
        assert len({x[name] for x in found[2:]}) == 1, [x[name] for x in found]


def test_growth_is_seen():
    flat = [{"resident_mib": 500.0, "files": 9, "threads": 1, "tasks": 4, "seconds": 1.0}] * 100
    assert soak.judged(flat)["met"]
    assert not soak.judged([*flat[:-1], {**flat[0], "files": 10}])["met"]
    leaking = [{**one, "resident_mib": 500.0 + i} for i, one in enumerate(flat)]
    assert not soak.judged(leaking)["met"] and soak.judged(leaking)["last_tenth_mib"] > 590


@pytest.mark.slow
def test_scans_at_once_give_what_one_alone_gives():
    figures = load.loaded(3)
    assert figures["met"], figures


def test_a_difference_is_named(monkeypatch):
    folders = iter(
        [
            (1.0, [{"scores.json": "a", "shards/x": "b"}]),
            (2.0, [{"scores.json": "a"}, {"scores.json": "c", "shards/x": "b"}]),
        ]
    )
    monkeypatch.setattr(load, "together", lambda *_: next(folders))
    figures = load.loaded(2)
    assert figures["differing"] == ["scores.json", "shards/x"] and not figures["met"]
