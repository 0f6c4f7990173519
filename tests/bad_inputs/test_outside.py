"""Nothing leaves its folder: names, links and archives from elsewhere that would are refused,
and nothing is touched there."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench import atomic
from workbench.cli import main
from workbench.errors import BadInput, RunError, WorkbenchError
from workbench.exporters import export
from workbench.exporters.provenance import PROVENANCE
from workbench.exporters.torch_files import plain_object
from workbench.heads import HeadScores, ModelIdentity
from workbench.inside import check_links, inner
from workbench.jsonable import dumps
from workbench.runs import Run
from workbench.scores_io import read_scores, write_files
from workbench.scores_record import to_json
from workbench.shards import file_name, slug
from workbench.untrusted import LARGEST_CONFIG, read_bytes, text_of

NAMES = ("../x", "../../x", "a/../../x", "/etc/x", "//x", "..", "", "a\0b", "x" * 300, "é" * 200)
WINDOWS = ("CON", "nul", "COM1", "a:b", "a\\b", "..\\x")
"""What Windows would take for devices, drives and folders."""
QUESTION = {"model": "m@1", "seed": 7}


@pytest.fixture
def secret(tmp_path):
    """A file beside the folders of the tests, whose bytes must stay what they are."""
    place = tmp_path / "outside" / "secret.txt"
    place.parent.mkdir()
    place.write_text("kept, and without an end of line")
    yield place
    assert place.read_text() == "kept, and without an end of line"
    assert [p.name for p in place.parent.iterdir()] == ["secret.txt"]


def opened(home: Path) -> Run:
    return Run.open(home, "scan-heads", "m", QUESTION)


def finished(home: Path) -> Path:
    with opened(home) as run:
        run.save("a", {"x": np.ones(2)})
        run.finish({}, {})
    return run.path


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_are_refused(name, tmp_path):
    with pytest.raises(BadInput, match="no name of a file"):
        write_files(tmp_path / "out", {"sound.json": b"1", name: b"2"})
    assert {p.name for p in tmp_path.rglob("*")} <= {"out", "sound.json"}


def test_names_in_folders_below_are_not_refused(tmp_path):
    """The negative control."""
    assert inner(tmp_path, "heads/L0H0.json") == tmp_path / "heads" / "L0H0.json"
    assert write_files(tmp_path, {"heads/a..b.json": b"1"})[0].read_bytes() == b"1"


@pytest.mark.parametrize("name", [*NAMES, *WINDOWS, "meta-llama/Llama-3.2-1B", "~", "-", "."])
def test_no_name_of_a_model_or_a_unit_becomes_a_path(name):
    for made in (f"scan-heads-{slug(name)}-0123", file_name(name), slug(name)):
        assert made == Path(made).name and made not in (".", "..") and len(made) < 100 and made.isascii()
        assert not set(made) & set('/\\:*?"<>|\0')
        assert made == slug(name) or made.upper().partition(".")[0] not in ("CON", "NUL", "COM1")  # never alone


def test_a_run_of_a_model_with_a_path_for_a_name_stays_in_its_folder(tmp_path):
    with Run.open(tmp_path / "runs", "scan-heads", "../../a/b", QUESTION) as run:
        run.save("../../unit", {"x": np.ones(1)})
    assert run.path.parent == tmp_path / "runs" and [p.name for p in tmp_path.iterdir()] == ["runs"]
    assert all(p.resolve().is_relative_to(run.path.resolve()) for p in run.path.rglob("*"))


@pytest.mark.parametrize("name", ["progress.jsonl", "run.json", "report.html", "shards/a.safetensors"])
def test_a_run_folder_with_a_link_out_of_it_is_refused(name, tmp_path, secret):
    path = finished(tmp_path / "runs")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(secret)
    with pytest.raises(WorkbenchError, match="leads out"):
        opened(tmp_path / "runs")
    assert main(["compare", str(path), str(path)]) == 2


def test_a_folder_of_shards_that_is_a_link_is_refused_and_nothing_there_removed(tmp_path, secret):
    path = finished(tmp_path / "runs")
    for shard in (path / "shards").iterdir():
        shard.unlink()
    (path / "shards").rmdir()
    (path / "shards").symlink_to(secret.parent)
    with pytest.raises(WorkbenchError, match="leads out"):
        opened(tmp_path / "runs")


def test_links_inside_and_run_folders_that_are_links_themselves_work(tmp_path):
    """The negative control: people move runs to another disk and leave a link."""
    path = finished(tmp_path / "runs")
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    (tmp_path / "moved" / "same.json").symlink_to("run.json")
    with opened(tmp_path / "runs") as run:
        assert run.resumed and run.done() == {"a"}


def test_a_pipe_in_a_run_folder_is_named_and_nobody_waits_for_it(tmp_path):
    path = finished(tmp_path / "runs")
    os.mkfifo(path / "scores.json")
    with pytest.raises(WorkbenchError, match="neither a file nor a folder"):
        opened(tmp_path / "runs")
    os.mkfifo(tmp_path / "scores.json")
    with pytest.raises(BadInput, match="no regular file"):
        read_scores(tmp_path / "scores.json")


def test_devices_and_endless_files_are_not_read(tmp_path):
    for place in ("/dev/zero", "/dev/null", "/proc/self/mem", "a\0b"):
        with pytest.raises(BadInput):
            read_bytes(Path(place))
        with pytest.raises(OSError):
            text_of(place)
    with open(tmp_path / "large", "wb") as stream:
        stream.truncate(2**33)
    with pytest.raises(BadInput, match="larger than 16 MiB"):
        read_bytes(tmp_path / "large")


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BadInput, match="leads out"):
        check_links(tmp_path)


def test_an_export_does_not_follow_a_link_out_of_its_folder(tmp_path, secret):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "heads").symlink_to(secret.parent)
    with pytest.raises(BadInput, match="leads out"):
        export(HeadScores(np.ones((2, 2)), "test"), "headvis", tmp_path / "out")


def test_a_file_that_is_a_link_is_replaced_and_what_it_led_to_kept(tmp_path, secret):
    (tmp_path / "a.json").symlink_to(secret)
    atomic.write_bytes(tmp_path / "a.json", b"new")
    assert not (tmp_path / "a.json").is_symlink() and (tmp_path / "a.json").read_bytes() == b"new"


def test_a_partial_file_that_was_laid_out_as_a_link_is_not_written_through(tmp_path, secret, monkeypatch):
    """Its name is drawn anew at every write; here somebody has guessed it."""
    monkeypatch.setattr(os, "urandom", bytes)
    (tmp_path / f".a.json.{bytes(8).hex()}.partial").symlink_to(secret)
    try:
        atomic.write_bytes(tmp_path / "a.json", b"new")
    except OSError:
        return
    assert (tmp_path / "a.json").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "..", "", "a\0b"])
def test_a_provenance_names_only_files_of_its_own_folder(name, tmp_path):
    (tmp_path / PROVENANCE).write_text(json.dumps({"format": "golden-stick", "files": {name: "0"}}))
    with pytest.raises(BadInput, match="holds no scores"):
        read_scores(tmp_path, 2, layers=2)


class Evil:
    """Unpickling it would write a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return (os.mkdir, (str(self.place),))


def saved(value: object, **how: object) -> bytes:
    torch.save(value, buffer := io.BytesIO(), **how)  # type: ignore[arg-type]
    return buffer.getvalue()


PLAIN = {"prefix_matching": {0: [1, 0], 3: []}, "copying": {2: [5]}, "é": -7, "x": [1.5, True, None, 2**40]}


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_torch_files_are_read_as_torch_reads_them(zipped):
    data = saved(PLAIN, _use_new_zipfile_serialization=zipped)
    assert plain_object(data) == torch.load(io.BytesIO(data), weights_only=True) == PLAIN


def archive(*parts: tuple[str, bytes], packed: bool = False) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as out:
        for name, data in parts:
            out.writestr(name, data)
    return buffer.getvalue()


def test_pickles_that_call_anything_are_refused_and_nothing_is_called(tmp_path):
    evil = tmp_path / "made"
    for protocol in range(6):
        held = pickle.dumps({"prefix_matching": Evil(evil)}, protocol)
        for data in (held, archive(("a/data.pkl", held)), archive(("data.pkl", held), packed=True)):
            with pytest.raises(ValueError, match="makes more than|not saved by torch"):
                plain_object(data)
    for value in (torch.zeros(2), np.zeros(2), {1, 2}, (1, 2), Path("x"), bytearray(3)):
        with pytest.raises(ValueError):
            plain_object(saved({"a": value}))
    assert not evil.exists()
    pickle.loads(held)  # the control: this is what would have happened
    assert evil.is_dir()


def test_archives_that_unfold_or_can_be_read_in_two_ways_are_refused():
    sound = pickle.dumps(PLAIN, 2)
    assert plain_object(archive(("a/data.pkl", sound), packed=True)) == PLAIN
    for parts, said in (
        ([("a/data.pkl", sound + b" " * (LARGEST_CONFIG + 1))], "unpacks to"), ([("a/data.pkl", sound), ("b/data.pkl",
        sound)], "2 files"),
        ([("x", sound)], "0 files"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            plain_object(archive(*parts, packed=True))


def test_a_list_that_holds_itself_a_million_times_is_no_list_of_heads(tmp_path):
    """Ten commands of a pickle can stand for more than memory holds."""
    fold = b"\x80\x02}X\x0f\x00\x00\x00prefix_matching}K\x00]" + b"".join(
        b"q" + bytes([i]) + b"]" + b"(" + (b"h" + bytes([i])) * 9 + b"e" for i in range(40)
    )
    for data in (fold + b"ss.", fold[:-1], b"\x80\x02]q\x00h\x00a."):
        (tmp_path / "head.pt").write_bytes(archive(("a/data.pkl", data)))
        with pytest.raises(BadInput):
            read_scores(tmp_path / "head.pt", 3, layers=2)


def test_yaml_that_unfolds_or_calls_is_refused(tmp_path):
    folds = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    for i, text in enumerate(
        (folds, "a: &a [*a]", "!!python/object/apply:os.abort []", "a: !!python/name:os.abort ''")
    ):
        (tmp_path / f"{i}.yaml").write_text(text)
        assert main(["scan-heads", f"config={tmp_path / f'{i}.yaml'}"]) == 2
        (tmp_path / "qrhead.yaml").write_text(text)
        with pytest.raises(BadInput):
            read_scores(tmp_path / "qrhead.yaml", 2, layers=2, heads=2)


def test_a_few_bytes_do_not_ask_for_gigabytes(tmp_path):
    for name, value in (
        ("scores.json", {"0-0": [0.5], "99999-99999": [0.5]}),
        ("scores.json", {"0-0": [0.5] * 2000, "0-99999": [0.5] * 2000}),
        ("minference.json", [{}] * 50_000 + [{"99999": ["stream_llm", 1, 1, 1]}]),
        ("layer_types.json", {"layer_types": ["full_attention"] * 9, "num_hidden_layers": 9, "num_attention_heads": 10**30}),
        ("scatter_data.json", [{"layer": 0, "head": 99_999, **{f"m{i}": 1 for i in range(2000)}}]),
    ):  # fmt: skip
        (tmp_path / name).write_text(json.dumps(value))
        with pytest.raises(BadInput, match="cannot be meant"):
            read_scores(tmp_path / name)


def test_texts_of_a_folder_name_no_widths(tmp_path):
    from workbench.tasks.ioi import read_mib

    for kind in ("names", "places", "objects"):
        (tmp_path / f"{kind}.json").write_text('["a"]')
    for slot in ("{place:>999999999}", "{place!r}", "{place.__class__}", "{place[0]}", "{}"):
        (tmp_path / "templates.json").write_text(json.dumps(["{name_A} {name_B} {name_C} {object} " + slot]))
        with pytest.raises(BadInput, match="use the slots"):
            read_mib(tmp_path)


def test_names_out_of_files_command_no_terminal(tmp_path, capsys):
    scores = replace(HeadScores(np.ones((1, 2)), "evil\x1b[2Jmethod"), model=ModelIdentity("m\x1b]0;x\x9b1m", "c", "w"))
    (tmp_path / "a\x1b[31m.json").write_text(dumps(to_json(scores)))
    for words in (
        ["compare"] + [str(tmp_path / "a\x1b[31m.json")] * 2,
        ["compare", str(tmp_path / "b\x1b[31m.json"), "x"],
    ):
        main(words)
        out, err = capsys.readouterr()
        assert not {"\x1b", "\x9b"} & set(out + err) and "x1b[" in out + err


def test_a_run_folder_that_another_holds_is_an_error_of_runs(tmp_path):
    with opened(tmp_path), pytest.raises(RunError, match="is being written"):
        opened(tmp_path)
