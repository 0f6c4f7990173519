"""Shards of a scan, done in any order and merged, are the scan of one machine, bit for bit; wrong shards are refused."""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from workbench_analyses.retrieval import units

from workbench import jobs
from workbench.cli import main
from workbench.parts import PLAN, whole_name

WORDS = ["scan-heads", "model=planted-copy", "lengths=64,96", "depths=50,", "rounds=4", "until=none", "proof=none"]
UNITS = 8
APART = {"run.json", "report.html", "progress.jsonl"}
"""What holds times; the rest is compared byte by byte."""


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Every command loads its model anew, which takes longer than these scans do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "load", functools.cache(jobs.load))
        yield


def scan(out: Path, *more: str, words: list[str] = WORDS) -> int:
    return main([*words, f"out={out}", *more])


def shards(out: Path, n: int, *more: str, skip: tuple[int, ...] = (), words: list[str] = WORDS) -> None:
    for i in reversed(range(n)):
        if i not in skip:
            assert scan(out, f"shard={i}/{n}", *more, words=words) == 0


def whole(out: Path) -> Path:
    (run,) = (p for p in out.iterdir() if "shard" not in p.name)
    return run


def part(out: Path, i: int) -> Path:
    (folder,) = out.glob(f"*.shard-{i}-of-*")
    return folder


def files(run: Path) -> dict[str, bytes]:
    assert json.loads((run / "run.json").read_text())["state"] == "done"
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name not in APART}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    out = tmp_path_factory.mktemp("single")
    assert scan(out) == 0
    return out


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    out = tmp_path_factory.mktemp("parted")
    shards(out, 3)
    return out


@pytest.fixture
def out(parted, tmp_path):
    return Path(shutil.copytree(parted, tmp_path / "runs"))


def refused(capsys, code: int, *words: str) -> str:
    capsys.readouterr()
    assert main(["merge", *words]) == code
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.strip())
    return line


@pytest.mark.parametrize("n", [1, 3, 5])
def test_shards_in_any_order_give_the_files_of_one_run(single, tmp_path, n, capsys):
    shards(tmp_path, n)
    assert main(["merge", str(tmp_path)]) == 0
    merged = files(whole(tmp_path))
    assert merged == files(whole(single)) and len([f for f in merged if f.startswith("shards/")]) == UNITS
    assert whole(tmp_path).name == whole(single).name
    held = json.loads(merged["scores.json"])
    assert max(map(max, filter(None, held.values()))) > 0.5


def test_the_merged_run_tells_under_which_other_circumstances_its_parts_were_made(out):
    for i, threads in enumerate((97, 98, 97)):
        file = part(out, i) / "run.json"
        record = json.loads(file.read_text())
        record["conditions"]["threads"] = threads
        file.write_text(json.dumps(record))
    assert main(["merge", str(out)]) == 0
    record = json.loads((whole(out) / "run.json").read_text())
    assert [x["conditions"]["threads"] for x in record["also_made_with"]] == [97, 98]
    assert record["conditions"]["threads"] not in (97, 98)


def test_the_list_may_be_stable_before_all_units_are_looked_at(tmp_path, capsys):
    words = [*WORDS[:2], "lengths=64,", "depths=0,50", "rounds=14", "until=0.5", "proof=none"]
    assert scan(tmp_path / "one", words=words) == 0
    shards(tmp_path / "two", 2, words=words)
    assert main(["merge", str(tmp_path / "two"), "--json"]) == 0
    one, two = (files(whole(tmp_path / name)) for name in ("one", "two"))
    assert len([f for f in one if f.startswith("shards/")]) < 14, "a run by itself stops"
    assert len([f for f in two if f.startswith("shards/")]) == 14
    assert {f: v for f, v in one.items() if "shards/" not in f} == {f: v for f, v in two.items() if "shards/" not in f}


OTHERS = {
    "scan-sinks": "scan-sinks model=planted-sink tokens=64 samples=8 recent=8 epsilon_tokens=16 proof=none",
    "calibrate": "calibrate model=planted-calibrate samples=200 draws=19",
    "calibrate a list": "calibrate model=planted-calibrate samples=80 draws=19 heads={heads}",
}


@pytest.mark.parametrize(
    "command", ["scan-sinks", *(pytest.param(c, marks=pytest.mark.slow) for c in list(OTHERS)[1:])]
)
def test_other_commands_are_merged_from_their_first_stage(tmp_path, command, monkeypatch):
    monkeypatch.setattr("workbench_analyses.sinks.scan.AT_ONCE", 256)
    (tmp_path / "heads.json").write_text("[[1, 0]]")
    words = OTHERS[command].format(heads=tmp_path / "heads.json").split()
    assert scan(tmp_path / "one", words=words) == 0
    shards(tmp_path / "two", 2, words=words)
    assert all(list((part(tmp_path / "two", i) / "shards").iterdir()) for i in range(2))
    assert main(["merge", str(tmp_path / "two")]) == 0
    one, two = (files(whole(tmp_path / name)) for name in ("one", "two"))
    assert one == two and len([f for f in one if f.startswith("shards/")]) > 3


def test_a_shard_says_what_it_did_and_done_again_does_nothing(out, capsys, monkeypatch):
    monkeypatch.setattr(units, "_score", lambda *_: pytest.fail("computed again"))
    before = files(part(out, 1))
    assert scan(out, "shard=1/3") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"when all 3 are done: workbench merge {out / whole_name(part(out, 1).name)}"
    assert scan(out, "shard=1/3", "json=true") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["shard"] == "1/3" and said["done_now"] == 0 and said["units"] in (2, 3)
    assert files(part(out, 1)) == before
    assert main(said["merge"].split()[1:]) == 0 and json.loads((whole(out) / "run.json").read_text())["state"] == "done"


def test_a_merge_goes_on_where_it_was_stopped_and_again_does_nothing_new(out, single, monkeypatch, capsys):
    from workbench.runs import Run

    true, left = Run.adopt, [5]

    def stopped(run, *args):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        true(run, *args)

    monkeypatch.setattr(Run, "adopt", stopped)
    monkeypatch.setattr(units, "_score", lambda *_: pytest.fail("computed again"))
    assert main(["merge", str(out)]) == 130
    assert len(list((whole(out) / "shards").iterdir())) == 4
    monkeypatch.setattr(Run, "adopt", true)
    for _ in range(2):
        assert main(["merge", str(out)]) == 0 and files(whole(out)) == files(whole(single))


def test_a_shard_that_was_run_again_replaces_what_an_earlier_merge_took(out, single, monkeypatch, capsys):
    """An odd machine's part is merged as mixed, then made again as told: nothing of it stays."""
    true = units._score

    def odd(*args):
        arrays, meta = true(*args)
        return {name: x * 0.5 for name, x in arrays.items()}, meta

    right = Path(shutil.copytree(part(out, 1), out.parent / "right" / part(out, 1).name))
    shutil.rmtree(part(out, 1))
    monkeypatch.setattr(units, "_score", odd)
    assert scan(out, "shard=1/3") == 0 and main(["merge", str(out)]) == 0
    assert files(whole(out))["scores.json"] != files(whole(single))["scores.json"]
    shutil.rmtree(part(out, 1))
    shutil.copytree(right, out / right.name)
    capsys.readouterr()
    monkeypatch.setattr(units, "_score", lambda *_: pytest.fail("computed again"))
    assert main(["merge", str(out)]) == 0 and files(whole(out)) == files(whole(single))
    n = len(json.loads((right / PLAN).read_text())["units"])
    (note,) = [line for line in capsys.readouterr().err.splitlines() if "held other results" in line]
    assert f"for {n} units" in note and note.endswith("those of the shards stand now")
    assert main(["merge", str(out)]) == 0 and "held other results" not in capsys.readouterr().err


def test_a_missing_shard_is_named(tmp_path, capsys):
    shards(tmp_path, 3, skip=(1,))
    assert "1 of 3 shards are missing: run shard=1/3, then merge" in refused(capsys, 1, str(tmp_path))
    assert scan(tmp_path, "shard=1/3") == 0 and main(["merge", str(tmp_path)]) == 0


def test_a_shard_that_was_killed_is_named_with_its_units(out, capsys, monkeypatch):
    log = part(out, 2) / "progress.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]) + '{"unit": "torn')
    line = refused(capsys, 1, str(out))
    assert "lacks 1 of its" in line and "run shard=2/3 again" in line
    assert scan(out, "shard=2/3") == 0 and main(["merge", str(out)]) == 0


def test_a_damaged_shard_is_named(out, capsys):
    next((part(out, 0) / "shards").iterdir()).write_bytes(b"x")
    line = refused(capsys, 1, str(out))
    assert "is corrupt" in line and "run shard=0/3 again" in line
    assert scan(out, "shard=0/3") == 0 and main(["merge", str(out)]) == 0


def test_a_doubled_shard_is_named(out, tmp_path, capsys):
    shutil.copytree(part(out, 1), tmp_path / part(out, 1).name)
    assert "shard 1/3 is there 2 times" in refused(capsys, 2, str(out), str(tmp_path / part(out, 1).name))


def test_shards_of_another_dealing_are_refused(out, capsys):
    assert scan(out, "shard=0/4") == 0
    assert "one of 3 shards" in refused(capsys, 2, str(out))


@pytest.mark.parametrize(("other", "named"), [("seed=1", "seed"), ("dtype=bfloat16", "dtype"), ("needle", "identity")])
def test_shards_of_another_question_are_refused(out, tmp_path, capsys, other, named):
    words = [w.replace("planted-copy", "planted-sink") for w in WORDS] if other == "needle" else [*WORDS, other]
    assert scan(tmp_path / "other", "shard=0/3", words=words) == 0
    line = refused(capsys, 2, str(part(out, 0)), str(part(out, 1)), str(part(tmp_path / "other", 0)))
    assert "answer other questions" in line and named in line


def test_shards_of_other_versions_are_refused_unless_said(out, single, capsys):
    plan = json.loads((part(out, 1) / PLAN).read_text())
    plan["made_with"]["torch"] = "1.0"
    (part(out, 1) / PLAN).write_text(json.dumps(plan))
    line = refused(capsys, 2, str(out))
    assert "made differently (torch" in line and "1.0" in line and "mixed=true" in line
    assert main(["merge", str(out), "mixed=true"]) == 0 and files(whole(out)) == files(whole(single))


def test_a_shard_that_was_begun_otherwise_is_not_made_alike_by_running_it_again(out, capsys, monkeypatch):
    file, log = part(out, 1) / PLAN, part(out, 1) / "progress.jsonl"
    plan = json.loads(file.read_text())
    file.write_text(json.dumps({**plan, "made_with": {**plan["made_with"], "torch": "1.0"}}))
    assert scan(out, "shard=1/3") == 0
    assert json.loads(file.read_text())["made_with"]["torch"] == "1.0", "nothing was left to do"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    for _ in range(2):
        assert scan(out, "shard=1/3") == 0
    assert json.loads(file.read_text())["made_with"] == plan["made_with"] | {"torch": f"1.0 then {torch.__version__}"}
    assert "made differently (torch" in refused(capsys, 2, str(out))


def test_shards_of_other_needles_are_refused(tmp_path, capsys):
    needles = f"needles={tmp_path / 'n.jsonl'}"
    words = [WORDS[0], "model=llama", "lengths=128,", "depths=50,", "rounds=2", *WORDS[5:], needles]
    for i, value in enumerate(("71", "72")):
        said = {"needle": f"The code of Anna is {value}.", "answer": value, "question": "What is the code of Anna?"}
        (tmp_path / "n.jsonl").write_text(json.dumps(said))
        assert scan(tmp_path / "out", f"shard={i}/2", words=words) == 0
    parts = sorted(map(str, (tmp_path / "out").iterdir()))
    assert len(parts) == 2 and "differ in asked" in refused(capsys, 2, *parts)


def test_a_merge_computes_no_unit_and_asks_no_other_question(out, capsys):
    for i in range(3):
        plan = json.loads((part(out, i) / PLAN).read_text())
        plan["options"]["rounds"] = "5"
        (part(out, i) / PLAN).write_text(json.dumps(plan))
    assert "differs in rounds" in refused(capsys, 2, str(out)) and not [
        p for p in out.iterdir() if "shard" not in p.name
    ]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("{", "not the plan of a part"), ("[]", "is damaged"), ({"units": ["a"], "of_units": "b"}, "is damaged"),
        ({"schema": 99}, "layout 99"), ({"shard": "9/3"}, "count from 0"), ({"units": [1]}, "is damaged"),
        ({"options": {"config": "/etc/passwd"}}, "does not take: config"),
        ({"options": {"trust_remote_code": "true"}}, "does not take: trust_remote_code"),
        ({"options": {"out": "/etc"}}, "does not take: out"),
    ],
)  # fmt: skip
def test_a_part_from_elsewhere_is_read_with_care(out, capsys, plan, said):
    for i in range(3):
        file = part(out, i) / PLAN
        file.write_text(plan if isinstance(plan, str) else json.dumps({**json.loads(file.read_text()), **plan}))
    assert said in refused(capsys, 2, str(out))


def test_a_pipe_in_a_part_is_not_waited_for(out, capsys):
    (part(out, 0) / "progress.jsonl").unlink()
    os.mkfifo(part(out, 0) / "progress.jsonl")
    assert "neither a file nor a folder" in refused(capsys, 2, str(out))


def test_a_place_without_parts_is_told(tmp_path, capsys, single):
    for place in (tmp_path, tmp_path / "nowhere", whole(single)):
        assert "holds no part of a run" in refused(capsys, 2, str(place))
    assert "merge needs" in refused(capsys, 2)


def test_merging_elsewhere_with_the_name_of_the_run(out, single, tmp_path, capsys):
    name = whole(single).name
    assert main(["merge", str(out / name), f"out={tmp_path / 'there'}"]) == 0
    assert files(tmp_path / "there" / name) == files(whole(single))
