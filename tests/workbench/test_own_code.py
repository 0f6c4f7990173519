"""Python that comes with a model: no architecture that TransformerLens knows runs it unless the user trusts it.

Its adapters ask Hugging Face for such code by name, without asking whether it is trusted: so each is tried.
"""

from __future__ import annotations

import json
import sys

import pytest
import tiny_models
import transformers.dynamic_module_utils as dynamic
from transformers import PreTrainedModel

import workbench as wb
from workbench.cli import main
from workbench.errors import ModelError, WorkbenchError

RUN = "import pathlib\npathlib.Path({!r}).write_text('run')\n"
BRINGING_CODE = {
    "BD3LM": "modeling_bd3lm.py", "BaichuanForCausalLM": "modeling_baichuan.py", "DreamModel": "modeling_dream.py",
    "GiddForDiffusionLM": "modeling_gidd.py", "InternLM2ForCausalLM": "modeling_internlm2.py",
    "LLaDA2MoeModelLM": "modeling_llada2_moe.py", "OpenELMForCausalLM": "modeling_openelm.py",
    "OuroForCausalLM": "modeling_ouro.py", "RWKV7ForCausalLM": "modeling_rwkv7.py",
    "RavenForCausalLM": "raven_modeling_minimal.py",
}  # fmt: skip
"""Architectures whose adapters ask for code, and the file that they ask for."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return tiny_models.save("llama", tmp_path_factory.mktemp("sound"))


@pytest.fixture
def folder(sound, tmp_path, monkeypatch):
    """A copy of a sound model, to be changed; what Hugging Face keeps of code goes beside it."""
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    here = tmp_path / "model"
    here.mkdir()
    for file in sound.iterdir():
        (here / file.name).write_bytes(file.read_bytes())
    return here


def named(folder, key, architecture):
    """The config calls its architecture so, and every file that an adapter may ask for lies beside it."""
    held = json.loads((folder / "config.json").read_text())
    said = [architecture] if key == "architectures" else architecture
    (folder / "config.json").write_text(json.dumps({**held, key: said}))
    for file in BRINGING_CODE.values():
        (folder / file).write_text(RUN.format(str(folder / "ran")))


@pytest.mark.parametrize("key", ["architectures", "original_architecture"])
@pytest.mark.parametrize("architecture", ["InternLM2ForCausalLM", "BaichuanForCausalLM"])
def test_code_beside_a_model_is_not_run_for_its_architecture(key, architecture, folder):
    named(folder, key, architecture)
    with pytest.raises(ModelError, match=r"needs code of its own \(modeling_\w+\.py\); trust_remote_code=true runs it"):
        wb.load(folder)
    assert not (folder / "ran").exists() and not (folder.parent / "modules").exists()


def test_the_command_says_so_in_one_line(folder, capsys):
    named(folder, "architectures", "InternLM2ForCausalLM")
    assert main(["scan-heads", f"model={folder}", "out=none", "lengths=64,", "rounds=1", "proof=none"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "trust_remote_code=true" in lines[0] and not (folder / "ran").exists()


def test_negative_control_who_trusts_it_has_it_run(folder):
    named(folder, "architectures", "InternLM2ForCausalLM")
    with pytest.raises(WorkbenchError):  # the weights are a llama's
        wb.load(folder, trust_remote_code=True)
    assert (folder / "ran").read_text() == "run"


def test_no_adapter_asks_for_code_unless_it_is_trusted(folder, monkeypatch):
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    asked = []

    def code(place, file, **_):
        asked.append(file)
        raise OSError("not there")

    def weights(cls, *_, **__):
        raise OSError("far enough")

    for name in ("get_cached_module_file", "get_class_in_module"):
        monkeypatch.setattr(dynamic, name, code)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(weights))

    def load(architecture, trusted):
        named(folder, "original_architecture", architecture)
        with pytest.raises(WorkbenchError):
            wb.load(folder, trust_remote_code=trusted)

    for architecture in list(SUPPORTED_ARCHITECTURES):
        load(architecture, trusted=False)
    assert len(SUPPORTED_ARCHITECTURES) > 100 and not asked
    for architecture in BRINGING_CODE:
        load(architecture, trusted=True)
    assert set(asked) >= set(BRINGING_CODE.values())
    assert dynamic.get_cached_module_file is code
