"""backend= as an option of questions: what it changes, where it is recorded, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.calibrate_heads import CalibrateHeads
from workbench_analyses.retrieval_heads import ScanHeads

import workbench as wb
from workbench.cli import main
from workbench.errors import Unsupported

SMALL = {"model": "planted-copy", "lengths": (128,), "rounds": 1, "proof": "none"}
WORDS = ["lengths=128,", "rounds=1", "proof=none"]


@pytest.mark.parametrize("config", [ScanHeads, ScanSinks, CalibrateHeads])
def test_a_question_says_what_differs_from_auto(config):
    """Runs from before there was a choice keep their folders; another backend may round otherwise and is another question."""
    assert "backend" not in config().question_asked() == config(backend="auto").question_asked()
    assert config(backend="hooks").question_asked() == config().question_asked() | {"backend": "hooks"}


def test_a_scan_by_hooks_has_the_scores_of_auto_and_says_so(tmp_path):
    scans = {name: wb.analyses.retrieval_heads.scan(ScanHeads(out=str(tmp_path), backend=name, **SMALL))
             for name in ("auto", "hooks")}  # fmt: skip
    auto, hooks = (s.scores.values for s in scans.values())
    np.testing.assert_array_equal(auto, hooks)
    assert np.nanmax(auto) > 0.5 and scans["auto"].path != scans["hooks"].path
    said = {name: json.loads((Path(s.path) / "run.json").read_text()) for name, s in scans.items()}
    assert said["auto"]["backend"] == "auto (chunked)" and said["hooks"]["backend"] == "hooks"
    assert "backend" not in said["auto"]["question"] and said["hooks"]["question"]["backend"] == "hooks"
    assert "backend=hooks" in scans["hooks"].command and "backend" not in scans["auto"].command


def test_a_model_at_hand_keeps_its_backend(monkeypatch):
    from workbench import backends

    asked, true = set(), backends.pick
    monkeypatch.setattr(backends, "pick", lambda name, *rest: asked.add(name) or true(name, *rest))
    model, options = wb.load("planted-copy", backend="chunked"), {k: v for k, v in SMALL.items() if k != "model"}
    assert wb.analyses.retrieval_heads.scan(model, **options).config.backend == "chunked" and asked == {"chunked"}
    asked.clear()
    wb.analyses.retrieval_heads.scan(model, backend="auto", **options)
    assert asked == {"auto"} and model.backend == "chunked"


@pytest.mark.parametrize("command", ["scan-heads", "scan-sinks", "calibrate"])
@pytest.mark.parametrize(
    ("value", "said"), [("chunkd", "Did you mean 'chunked'?"), ("triton", "backend=triton cannot do this: ")]
)
def test_what_cannot_serve_is_one_line_and_exit_2(command, value, said, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    code = main([command, "model=planted-copy", f"backend={value}", f"out={tmp_path}", "device=cpu"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert code == 2 and len(lines) == 1 and said in lines[0] and not list(tmp_path.iterdir())


def test_a_request_that_a_backend_cannot_do_ends_the_run_in_one_line(tmp_path, monkeypatch, capsys):
    """Found out on the way: whole patterns that do not fit; what is finished is kept."""
    monkeypatch.setattr(wb.models.Model, "memory", property(lambda self: 1000, lambda self, x: None), raising=False)
    code = main(["scan-heads", "model=planted-copy", "backend=hooks", f"out={tmp_path}", *WORDS])
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert code == 2 and len(lines) == 1 and "raise memory=" in lines[0]
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "run.json").read_text())["state"] == "failed"


def test_used_refuses_before_it_changes_anything(monkeypatch):
    from workbench.backends import used

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    model = wb.load("planted-copy")
    with pytest.raises(Unsupported, match="triton cannot"), used(model, "triton"):
        raise AssertionError
    with pytest.raises(ZeroDivisionError), used(model, "hooks"):
        assert model.backend == "hooks"
        raise ZeroDivisionError
    assert model.backend == "auto"
