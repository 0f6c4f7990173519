"""The shape of the house: layers, packaging traps, and what may be imported before arguments are valid."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABOVE = {"kernels": {"workbench", "workbench_analyses"}, "workbench": {"workbench_analyses"}}


def imports(path: Path):
    tree = ast.parse(path.read_text())
    typing_only = {
        id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for n in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("layer", list(ABOVE))
def test_nothing_imports_upwards(layer: str):
    files = list((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        assert not set(imports(path)) & ABOVE[layer], path


def test_the_source_roots_are_no_packages():
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "analyses" / "__init__.py").exists()
    for package in ("workbench", "analyses/workbench_analyses", "kernels/workbench_kernels"):
        assert (ROOT / package / "py.typed").exists()


def test_commands_are_found_without_heavy_imports():
    code = (
        "import sys; from workbench.discovery import commands; print(sorted(commands()));"
        "print([m for m in ('torch', 'transformers', 'pandas', 'plotly', 'transformer_lens') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "'scan-heads'" in out[0] and out[1] == "[]"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["scan-head"], 2, "Did you mean 'scan-heads'?"),
        (["scan-heads", "modle=llama"], 2, "Did you mean 'model'?"),
        (["scan-heads", "rounds=x"], 2, "not a whole number"),
        (["scan-heads", "lengths=-5"], 2, "at least 64"),
        (["scan-heads", "--rounds", "5"], 2, "rounds=5"),
        (["scan-heads", "model=lama"], 2, "Did you mean 'llama'?"),
        (["scan-heads", "model=."], 2, "no config.json"),
        (["scan-heads", "proof=maybe"], 2, "default, full, none"),
    ],
)
def test_bad_words_give_one_line_and_exit_2(words, code, said, tmp_path):
    done = subprocess.run(["workbench", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and said in lines[0]
    assert not list(tmp_path.iterdir())


def test_pickled_and_remote_models_are_refused(tmp_path):
    import workbench as wb
    from workbench.errors import ModelError

    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickled weights"):
        wb.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModelForCausalLM": "evil.py"}}')
    with pytest.raises(ModelError, match="trust_remote_code=true"):
        wb.load(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}')
    with pytest.raises(ModelError, match="not a decoder"):
        wb.load(tmp_path)


def test_the_command_scans_writes_json_and_resumes(tmp_path, monkeypatch, capsys):
    import json

    from workbench.cli import main

    monkeypatch.chdir(tmp_path)
    words = ["scan-heads", "lengths=128,", "depths=50,", "rounds=1", "until=none", "proof=none", "json=true"]
    a, b = ((main(words), json.loads(capsys.readouterr().out)) for _ in range(2))
    assert a[0] == b[0] == 0 and a[1]["samples"] == 1 and a[1]["top"] == b[1]["top"] and a[1]["run"] == b[1]["run"]
    assert a[1]["validation"] == "not validated" and a[1]["model"].endswith("not Meta's weights")


def test_every_public_name_is_there_and_modules_hide_none():
    import types

    import workbench as wb

    assert sorted(set(wb.__all__)) == list(wb.__all__)
    modules = {name for name in wb.__all__ if isinstance(getattr(wb, name), types.ModuleType)}
    assert modules == {"analyses", "live", "patching", "probes", "views", "visual"}
    assert all(callable(getattr(part, name)) for part in (wb.patching, wb.probes, wb.visual) for name in part.__all__)
