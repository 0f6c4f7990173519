"""`models`, `doctor` and `completion`: what they print is true, and the scripts work in a real shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import chz
import pytest

from workbench.cli import main
from workbench.command import Command
from workbench.commands import completion, doctor
from workbench.discovery import commands
from workbench.options import options_of
from workbench.reference_models.catalogue import BUNDLED, PLANTED, folder


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(words)
    return code, capsys.readouterr().out


def test_models_lists_every_bundled_model_once(capsys):
    code, out = answer(capsys, "models")
    assert code == 0
    for name, bundled in BUNDLED.items():
        assert sum(line.startswith(f"{name} ") for line in out.splitlines()) == 1
        assert " ".join(bundled.label.split()) in " ".join(out.split())
    rows = json.loads(answer(capsys, "models", "json=true")[1])["models"]
    assert [row["name"] for row in rows] == list(BUNDLED)
    for name in PLANTED:
        assert next(row for row in rows if row["name"] == name) | {"folder": None, "bytes": None} in rows
        assert any(line.startswith(f"{name} ") and "built on load" in line for line in out.splitlines())
    for row in (row for row in rows if row["name"] not in PLANTED):
        files = [file for file in folder(row["name"]).rglob("*") if file.is_file()]
        assert row["bytes"] == sum(len(file.read_bytes()) for file in files)


def test_doctor_tells_the_installed_versions_and_measures_the_backends(capsys):
    code, out = answer(capsys, "doctor", "--json")
    facts = json.loads(out)
    findings = {(f["topic"], f["name"]): f for f in facts["findings"]}
    assert code == 0 if facts["ok"] else 1
    for name in ("torch", "transformers", "transformer-lens", "workbench-interp"):
        assert findings["library", name] | {"detail": ""} == findings["library", name] | {"detail": "", "state": "ok"}
        assert findings["library", name]["detail"] == metadata.version(name)
    for name in ("chunked", "reference"):
        assert findings["attention", name]["state"] == "ok"
    assert findings["attention", "triton"] == findings["attention", "triton"] | {"state": "absent"}
    assert {f["state"] for f in facts["findings"]} <= {"ok", "absent", "missing", "broken"}
    assert "transformer-lens" in answer(capsys, "doctor")[1]


def test_doctor_names_what_is_missing_and_the_command_that_adds_it(capsys, monkeypatch):
    real = metadata.version

    def without_scipy(name: str) -> str:
        if name == "scipy":
            raise metadata.PackageNotFoundError(name)
        return "4.9.0" if name == "transformers" else real(name)

    monkeypatch.setattr(metadata, "version", without_scipy)
    code, out = answer(capsys, "doctor", "--json")
    findings = {f["name"]: f for f in json.loads(out)["findings"] if f["topic"] == "library"}
    assert code == 1
    assert findings["scipy"]["state"] == "missing"
    assert findings["scipy"]["remedy"].startswith("pip install 'scipy>=")
    assert findings["transformers"]["state"] == "missing" and "4.9.0" in findings["transformers"]["detail"]
    assert findings["torch"]["state"] == "ok" and findings["torch"]["remedy"] == ""
    code, out = answer(capsys, "doctor")
    assert code == 1 and "2 required part(s) missing" in out and "pip install 'scipy>=" in out


def test_doctor_finds_a_wrong_backend_and_a_broken_library(monkeypatch):
    import workbench_kernels

    def wrong(*arguments):
        out, statistics = workbench_kernels.reference.attend(*arguments)
        return out + 1e-3, statistics

    monkeypatch.setitem(workbench_kernels.BACKENDS, "chunked", wrong)
    states = {f.name: f.state for f in doctor._backends()}
    assert states["chunked"] == "broken" and states["reference"] == "ok"

    def damaged():
        raise OSError("libcudart.so:\ncannot open")
        yield

    (finding,) = doctor._imported("device", damaged)
    assert finding.state == "broken" and finding.detail == "OSError: libcudart.so: cannot open"
    assert doctor.Diagnosis((finding,)).exit_code == 1


def test_requirements():
    assert doctor.requirement_fault("numpy>=1") == ""
    assert "does not satisfy" in doctor.requirement_fault("numpy<1")
    assert doctor.requirement_fault("no-such-distribution-here>=1") == "not installed"


def test_doctor_says_when_the_hub_is_off(capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (finding,) = doctor._network()
    assert finding.state == "absent" and "HF_HUB_OFFLINE=1" in finding.detail
    for name in doctor._OFFLINE:
        monkeypatch.delenv(name, raising=False)
    assert next(doctor._network()).state == "ok"


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("bash"):
        pytest.skip("no bash")
    path = tmp_path_factory.mktemp("bash") / "completion"
    done = subprocess.run([sys.executable, "-m", "workbench.cli", "completion", "bash"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout)
    subprocess.run(["bash", "-n", path], check=True)
    return path


def complete(script: Path, line: str, cwd: Path | None = None, breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """What bash would offer at the end of `line`, with words cut at `=` as readline does unless told otherwise."""
    code = r"""
        COMP_WORDBREAKS=$3; source "$1"; COMP_LINE=$2; COMP_POINT=${#2}
        spaced=$2; [[ $COMP_WORDBREAKS == *=* ]] && spaced=${2//=/ = }
        read -r -a COMP_WORDS <<< "$spaced"
        [[ $2 == *[[:space:]] || $spaced == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
        _workbench; printf '%s\n' "${COMPREPLY[@]}"
    """
    command = ["bash", "--norc", "-c", code, "bash", str(script), line, breaks]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return [word for word in done.stdout.splitlines() if word]


def test_bash_completes_commands_keys_and_values(bash_script, tmp_path):
    assert set(complete(bash_script, "workbench ")) == commands().keys()
    assert complete(bash_script, "workbench comple") == ["completion"]
    assert complete(bash_script, "workbench zz") == []
    for name, command in commands().items():
        offered = complete(bash_script, f"workbench {name} ")
        assert {f"{key}=" for key in options_of(command.config)} <= set(offered)
    assert complete(bash_script, "workbench completion z") == ["zsh"]
    assert complete(bash_script, "workbench completion shell=") == ["bash", "zsh", "fish"]
    assert complete(bash_script, "workbench models json=t") == ["true"]
    assert complete(bash_script, "workbench models json=t", breaks=" \t\n") == ["json=true"]
    assert complete(bash_script, "workbench models nothing=") == []
    (tmp_path / "options.yaml").write_text("")
    assert complete(bash_script, "workbench models config=opt", tmp_path) == ["options.yaml"]
    assert complete(bash_script, "workbench compare opt", tmp_path) == ["options.yaml"]


def test_bash_completes_bundled_models(bash_script):
    takers = [name for name, command in commands().items() if "model" in options_of(command.config)]
    if not takers:
        pytest.skip("no installed command takes model=")
    for name in takers:
        assert complete(bash_script, f"workbench {name} model=") == list(BUNDLED)
        assert complete(bash_script, f"workbench {name} seed=1 model=llam") == ["llama"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_scripts(capsys, tmp_path, shell):
    code, out = answer(capsys, "completion", shell)
    assert code == 0
    for name, command in commands().items():
        assert name in out and all(f"{key}=" in out or f" {key}'" in out for key in options_of(command.config))
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed: its script was written but not parsed")
    script = tmp_path / "script"
    script.write_text(out)
    subprocess.run([shell, "-n", script], check=True, env=os.environ)


def test_nothing_in_a_script_is_ever_executed(tmp_path):
    @chz.chz
    class Odd:
        it: str = chz.field(default="", doc="isn't $(touch x) `touch y`; 50% {0}")

    odd = Command("odd", "don't $(touch x); `touch y` {0}", Odd, print)
    words = {"odd": {"it": ("a'b", "$(touch x)", "c")}}
    for shell, write in completion.WRITERS.items():
        script = tmp_path / shell
        script.write_text(write({"odd": odd}, words))
        if shutil.which(shell):
            subprocess.run([shell, "-n", script], check=True)
    if not shutil.which("bash"):
        pytest.skip("no bash: scripts were written but not run")
    assert complete(tmp_path / "bash", "workbench odd it=", tmp_path) == ["a'b", "$(touch x)", "c"]
    assert complete(tmp_path / "bash", "workbench odd it=c", tmp_path) == ["c"]
    assert {file.name for file in tmp_path.iterdir()} == set(completion.WRITERS)


def test_lines_of_a_script_are_never_wrapped(capsys):
    for shell, write in completion.WRITERS.items():
        known = commands()
        expected = write(known, {name: completion._words(command, tuple(BUNDLED)) for name, command in known.items()})
        assert answer(capsys, "completion", shell)[1].rstrip("\n") == expected
        assert max(map(len, expected.splitlines())) > 100
