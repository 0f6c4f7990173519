"""Runs survive kills, refuse second writers and other questions, and name what is damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from workbench import locks
from workbench.errors import BadInput, RunError
from workbench.runs import Run, read_run

QUESTION = {"model": "llama@1f", "seed": 7, "lengths": (256, 512), "until": 0.5}
UNITS = [f"len={length}/sample={i}" for length in (256, 512) for i in range(20)]

# Saves unit after unit, telling each on stdout once it is down; sleeping keeps kills spread over the whole cycle.
WRITER = """
import sys, numpy as np
from workbench.runs import Run
with Run.open(sys.argv[1], "scan-heads", "llama", {question!r}) as run:
    for unit in {units!r}:
        if unit in run.done():
            continue
        values = np.random.default_rng(abs(hash(unit)) % 2**32).normal(size=(64, 4, 16))
        run.save(unit, {{"values": values, "sum": values.sum()}}, {{"answered": True}})
        print(unit, flush=True)
    run.finish({{"units": len(run.done())}}, {{"seconds": run.seconds()}})
"""


def opened(out: Path, **changes) -> Run:
    return Run.open(out, "scan-heads", "llama", QUESTION | changes)


def writer(out: Path) -> subprocess.Popen[str]:
    code = WRITER.format(question=QUESTION, units=UNITS)
    return subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True)


def shard_of(run_path: Path, unit: str) -> Path:
    lines = (run_path / "progress.jsonl").read_text().splitlines()
    return run_path / "shards" / next(e["shard"] for e in map(json.loads, lines) if e["unit"] == unit)


def test_round_trip_of_arrays_and_meta(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "c": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(5, 6))),
        "strided": rng.integers(0, 9, (8, 8))[::2, ::3],
        "big": rng.normal(size=5).astype(">f4"),
        "scalar": np.float64(2.5),
        "empty": np.zeros((0, 3), np.float16),
        "mask": rng.random((4, 4)) > 0.5,
        "nan": np.array([np.nan, 1.0]),
    }
    with opened(tmp_path) as run:
        run.save("unit é/1", arrays, {"text": "naïve\n", "score": float("nan"), "span": (1, 2), "n": np.int64(3)})
        loaded, meta = run.load("unit é/1")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].shape == np.shape(array)
    assert meta == {"text": "naïve\n", "score": None, "span": [1, 2], "n": 3}


def test_objects_are_never_pickled(tmp_path):
    with opened(tmp_path) as run, pytest.raises(TypeError, match="'words'"):
        run.save("u", {"words": np.array(["a", None], dtype=object)})
    assert not list((run.path / "shards").iterdir())


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_shard_is_named_and_redone(tmp_path, damage):
    with opened(tmp_path) as run:
        for unit in ("a", "b", "c"):
            run.save(unit, {"x": np.arange(100.0)}, {"unit": unit})
    shard = shard_of(run.path, "b")
    data = bytearray(shard.read_bytes())
    if damage == "remove":
        shard.unlink()
    else:
        data[-3] ^= 1
        shard.write_bytes(data if damage == "flip" else data[:50])
    with opened(tmp_path) as run:
        with pytest.raises(RunError, match=shard.name):
            run.load("b")
        assert run.done() == {"a", "c"}
        assert len(run.warnings) == 1 and shard.name in run.warnings[0] and "'b'" in run.warnings[0]
        assert not shard.exists()
        run.save("b", {"x": np.arange(100.0)})
        assert run.done() == {"a", "b", "c"}
    with opened(tmp_path) as run:
        assert run.done() == {"a", "b", "c"} and not run.warnings


def test_texts_with_other_ends_of_lines_stay_in_their_line(tmp_path):
    with opened(tmp_path) as run:
        for unit in ("a", "b"):
            run.save(unit, {"x": np.ones(3)}, {"caption": "a cat\u2028\x85\x0c."})
    with opened(tmp_path) as run:
        assert run.done() == {"a", "b"} and not run.warnings


def test_torn_last_line_is_dropped_and_the_log_stays_readable(tmp_path):
    with opened(tmp_path) as run:
        for unit in ("a", "b"):
            run.save(unit, {"x": np.ones(3)})
    log = run.path / "progress.jsonl"
    whole = log.read_bytes()
    for cut in (1, 20, len(whole.splitlines()[1])):
        log.write_bytes(whole[:-cut])
        with opened(tmp_path) as run:
            assert run.done() == {"a"} and not run.warnings
            run.save("b", {"x": np.ones(3)})
        assert all(json.loads(line) for line in log.read_text().splitlines())
        with opened(tmp_path) as run:
            assert run.done() == {"a", "b"}


def test_damaged_middle_line_is_reported_and_cannot_reach_outside_the_folder(tmp_path):
    with opened(tmp_path) as run:
        run.save("a", {"x": np.ones(3)})
        run.save("b", {"x": np.ones(3)})
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    evil = json.dumps({"unit": "e", "shard": "../../victim", "sha256": "0", "seconds": 1, "meta": {}})
    log = run.path / "progress.jsonl"
    lines = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([b"\xff{", lines[1], evil.encode()]) + b"\n")
    with opened(tmp_path) as run:
        assert run.done() == {"b"}
        assert len(run.warnings) == 2 and "line 1 " in run.warnings[0] and "line 3 " in run.warnings[1]
    assert victim.read_text() == "keep me"


def test_second_writer_is_told_who_holds_the_run(tmp_path):
    process = writer(tmp_path)
    try:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(RunError) as caught:
            opened(tmp_path)
        message = str(caught.value)
        assert f"process {process.pid} " in message and os.uname().nodename in message and "\n" not in message
    finally:
        process.kill()
        process.wait()
    with opened(tmp_path) as run:  # the dead writer's lock is taken over
        assert run.done()
        with pytest.raises(RunError, match=f"process {os.getpid()} "):
            opened(tmp_path)
    assert not (run.path / "lock").exists()


def test_a_zombie_a_reused_pid_and_another_host(tmp_path):
    with opened(tmp_path) as run:
        held = json.loads((run.path / "lock").read_text())
    lock = run.path / "lock"
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    for stale in ({"pid": zombie.pid, "born": None}, {"born": "another boot/1"}, {"pid": 2**22 + 1}):
        lock.write_text(json.dumps(held | stale))
        opened(tmp_path).close()
    zombie.wait()
    for alive in ({"host": "elsewhere", "pid": 2**22 + 1}, {"space": "pid:[1]", "pid": 2**22 + 1}, {}):
        lock.write_text(json.dumps(held | alive))
        with pytest.raises(RunError, match="delete .*lock"):
            opened(tmp_path)
    lock.write_text("")
    with pytest.raises(RunError, match="just been taken"):
        opened(tmp_path)
    os.utime(lock, (time.time() - 2 * locks._NEWBORN,) * 2)
    opened(tmp_path).close()
    assert not lock.exists()


def test_machines_of_one_host_name_are_told_apart_where_they_can_be(tmp_path, monkeypatch):
    """Many are called localhost, and every machine's first space of process ids has one number."""
    with opened(tmp_path) as run:
        held = json.loads((run.path / "lock").read_text()) | {"pid": 2**22 + 1}
    lock = run.path / "lock"
    for here, there, taken in (
        ("a", "b", False),
        (None, "b", False),
        ("a", "a", True),
        ("a", None, True),
        (None, None, True),
    ):
        monkeypatch.setattr(locks, "_machine", lambda here=here: here)
        lock.write_text(json.dumps(held | {"machine": there}))
        if taken:
            opened(tmp_path).close()
        else:
            with pytest.raises(RunError, match="delete .*lock"):
                opened(tmp_path)
    lock.write_text(json.dumps({k: v for k, v in held.items() if k != "machine"}))
    opened(tmp_path).close()  # as older versions wrote it
    assert not lock.exists()


def test_a_lock_let_go_at_this_moment_is_free(tmp_path, monkeypatch):
    create, tries = locks.FolderLock._create, []
    monkeypatch.setattr(locks.FolderLock, "_create", lambda self: (bool(tries) and create(self)) or tries.append(1))
    opened(tmp_path).close()
    assert tries == [1] and not list(tmp_path.rglob("lock"))


def test_many_writers_at_one_stale_lock_let_exactly_one_in(tmp_path):
    with opened(tmp_path) as run:
        held = json.loads((run.path / "lock").read_text())
    (run.path / "lock").write_text(json.dumps(held | {"pid": 2**22 + 1}))
    code = f"""
import sys, time
from workbench.runs import Run
from workbench.errors import RunError
sys.stdin.readline()
try:
    run = Run.open({str(tmp_path)!r}, "scan-heads", "llama", {QUESTION!r})
except RunError:
    print("refused")
else:
    print("in")
sys.stdout.flush()
sys.stdin.readline()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(6)]
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = [racer.stdout.readline().strip() for racer in racers]
    for racer in racers:
        racer.communicate("\n")
    assert sorted(answers) == ["in"] + ["refused"] * 5


def test_the_folder_is_named_by_the_question(tmp_path):
    same = [
        QUESTION,
        dict(reversed(QUESTION.items())),
        QUESTION | {"lengths": [256, 512], "seed": 7.0},
        QUESTION | {"seed": np.int64(7)},
    ]
    paths = set()
    for question in same:
        with Run.open(tmp_path, "scan-heads", "llama", question) as run:
            paths.add(run.path)
    assert len(paths) == 1
    assert paths.pop().name.startswith("scan-heads-llama-")
    for changes in ({"seed": 8}, {"lengths": (256,)}, {"until": None}):
        with opened(tmp_path, **changes) as run:
            assert not run.resumed
    with Run.open(tmp_path, "scan-heads", "meta-llama/Llama-3.2-1B", QUESTION) as run:
        assert run.path.parent == tmp_path and "Llama-3.2-1B" in run.path.name
    with Run.open(tmp_path, "scan-heads", str(tmp_path), QUESTION) as run:
        assert f"scan-heads-{tmp_path.name[:60]}" in run.path.name
    with pytest.raises(BadInput, match="until is nan"):
        opened(tmp_path, until=float("nan"))


def test_another_question_in_the_folder_is_refused_and_nothing_is_lost(tmp_path):
    with opened(tmp_path) as run:
        run.save("a", {"x": np.ones(3)})
    with opened(tmp_path, seed=8) as other:
        pass
    record = (other.path / "run.json").read_text()
    (run.path / "run.json").write_text(record)
    before = sorted(p.name for p in run.path.rglob("*"))
    with pytest.raises(RunError, match=r"another question \(differs in seed\).*out=") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in run.path.rglob("*")) == before and not (run.path / "lock").exists()
    (run.path / "run.json").unlink()
    with pytest.raises(RunError, match="no run.json"):
        opened(tmp_path)
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        opened(tmp_path)
    assert shard_of(run.path, "a").exists()


def test_unwritable_places_are_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "below", "/proc/nowhere"):
        with pytest.raises(BadInput, match="cannot write in .*out=") as caught:
            opened(Path(out))
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="cannot write in .*Permission denied"):
        opened(tmp_path)
    tmp_path.chmod(0o700)


def test_record_states_versions_and_cost(tmp_path):
    with Run.open(tmp_path, "scan-heads", "llama", QUESTION, label="a label") as run:
        assert read_run(run.path)["state"] == "running"
        run.save("a", {"x": np.ones(3)})
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as run:
        raise KeyboardInterrupt
    assert read_run(run.path)["state"] == "interrupted"
    with pytest.raises(ValueError, match="two"), opened(tmp_path) as run:
        raise ValueError("one\ntwo")
    record = read_run(run.path)
    assert record["state"] == "failed" and record["error"] == "ValueError: one two"
    with opened(tmp_path) as run:
        assert run.seconds() > 0
        run.finish({"best": float("nan"), "top": [(0, 1)]}, {"seconds": 1.5})
    record = read_run(run.path / "run.json")
    assert record["state"] == "done" and "error" not in record
    assert record["summary"] == {"best": None, "top": [[0, 1]]} and record["cost"] == {"seconds": 1.5}
    assert record["seeds"] == {"seed": 7} and len(record["resumed"]) == 3
    assert record["started"] <= record["ended"] and record["started"].endswith("+00:00")
    assert {"python", "torch", "transformers", "transformer-lens", "workbench"} <= record["versions"].keys()
    assert record["versions"]["torch"]


def test_other_versions_are_mentioned(tmp_path):
    with opened(tmp_path) as run:
        pass
    record = read_run(run.path)
    record["versions"]["torch"] = "0.1"
    (run.path / "run.json").write_text(json.dumps(record))
    with opened(tmp_path) as run:
        assert "other versions" in run.warnings[0] and "torch 0.1, now" in run.warnings[0]


def test_a_run_keeps_every_circumstance_once_that_its_units_were_made_under(tmp_path):
    def session(threads, **also):
        with Run.open(tmp_path, "scan-heads", "llama", QUESTION, conditions={"threads": threads}) as run:
            for others in also.values():
                run.made_elsewhere(others)
        record = read_run(run.path)
        return record["conditions"]["threads"], [x["conditions"]["threads"] for x in record["also_made_with"]]

    elsewhere = {"conditions": {"threads": 8}, "versions": {"torch": "9"}}
    assert session(1) == (1, []) and session(1) == (1, [])
    assert session(2) == (2, [1])
    assert session(1) == (1, [2])  # what this session computes with stands where it always did
    assert session(1, ray=[elsewhere, elsewhere], more=[elsewhere]) == (1, [2, 8])
    assert session(3) == (3, [2, 8, 1])
    (path,) = tmp_path.iterdir()
    record = read_run(path)
    assert elsewhere in record["also_made_with"] and record["versions"]["torch"] != "9"
    (path / "run.json").write_text(
        json.dumps({**record, "also_made_with": [3, {}, {"versions": "x"}], "conditions": 7})
    )
    with Run.open(tmp_path, "scan-heads", "llama", QUESTION, conditions={"threads": 1}) as run:
        assert [x.keys() for x in read_run(run.path)["also_made_with"]] == [{"versions", "machine"}]


def test_written_files(tmp_path):
    frame = pd.DataFrame({"layer": [0, 1], "score": [0.5, np.nan]})
    with opened(tmp_path) as run:
        run.write_text("note.txt", "é\n")
        run.write_json("facts.json", {"nan": float("nan"), "array": np.arange(3)})
        run.write_table("samples.parquet", frame)
        run.write_tensors("maps.safetensors", {"m": np.eye(3, dtype=np.float32)})
        for name in ("run.json", "../x", "a/b", "lock", ".hidden", ""):
            with pytest.raises(ValueError, match="file name"):
                run.write_text(name, "")
    assert (run.path / "note.txt").read_text() == "é\n"
    assert json.loads((run.path / "facts.json").read_text()) == {"nan": None, "array": [0, 1, 2]}
    pd.testing.assert_frame_equal(pd.read_parquet(run.path / "samples.parquet"), frame)
    np.testing.assert_array_equal(safetensors.numpy.load_file(run.path / "maps.safetensors")["m"], np.eye(3))


def test_read_run_errors_are_one_line(tmp_path):
    cases = {"[]": "not the record", "{": "damaged", '{"question": {}, "schema": 99}': "update workbench"}
    for text, message in cases.items():
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(BadInput, match=message) as caught:
            read_run(tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="not a run folder"):
        read_run(tmp_path / "nothing")
