"""Models from elsewhere: no pickle is loaded, no code is run, no kernel is fetched, whatever their files say."""

from __future__ import annotations

import json
import os

import pytest
import tiny_models
import torch
from safetensors.torch import load_file

import workbench as wb
from workbench.cli import main
from workbench.errors import BadInput, ModelError
from workbench.installing import nothing_installed
from workbench.safe_loading import CONVERTING, safetensors_only
from workbench.tasks.assembling import Assembler
from workbench.tasks.chat_templates import rendered


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    return {kind: tiny_models.save(kind, tmp_path_factory.mktemp(kind)) for kind in ("llama", "llava")}


@pytest.fixture
def folder(homes, tmp_path):
    """A copy of a sound model, to be changed."""
    return copied(homes["llama"], tmp_path)


@pytest.fixture
def kernels(monkeypatch):
    """Kernels that somebody asked the hub for, as if the package that fetches them were installed."""
    import transformers.integrations.hub_kernels as hub
    import transformers.modeling_utils as modeling

    asked: list[str] = []

    def get(name, **_):
        asked.append(name)
        raise OSError("not there")

    for module in (hub, modeling):
        monkeypatch.setattr(module, "is_kernels_available", lambda: True)
    monkeypatch.setattr(hub, "get_kernel", get)
    return asked


def copied(home, to):
    for file in home.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def change(folder, name, **values):
    held = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**held, **values}))


def pickled(folder, name):
    torch.save(load_file(folder / "model.safetensors"), folder / name)


def test_pickles_beside_safetensors_of_another_name_are_not_loaded(folder):
    pickled(folder, "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(ModelError, match="pickled weights are not loaded|no file named model.safetensors"):
        wb.load(folder)


def test_a_config_that_names_a_pickle_is_not_followed(folder):
    pickled(folder, "weights.bin")
    change(folder, "config.json", transformers_weights="weights.bin")
    with pytest.raises(ModelError, match="neither a safetensors file"):
        wb.load(folder)


def test_whatever_loads_a_pickle_meanwhile_is_stopped(folder):
    pickled(folder, "weights.bin")
    with safetensors_only(), pytest.raises(ModelError, match="pickled weights are not loaded"):
        torch.load(folder / "weights.bin", weights_only=True)


def test_nothing_stays_changed_and_the_control_loads(folder):
    before = (torch.load, torch.nn.Module, os.environ.get(CONVERTING))
    assert wb.load(folder).n_layers == 3
    with pytest.raises(KeyError), safetensors_only():
        raise KeyError
    assert before == (torch.load, torch.nn.Module, os.environ.get(CONVERTING))
    with safetensors_only(False):
        assert torch.load is before[0]


def test_nothing_is_installed_while_a_model_is_loaded(monkeypatch):
    from transformer_lens.model_bridge.sources.transformers import helpers

    monkeypatch.setattr(helpers, "_ensure_torchvision", lambda: pytest.fail("pip is run"))
    with nothing_installed():
        assert helpers._ensure_torchvision() is False


@pytest.mark.parametrize(
    "said", ["evil-org/evil-kernel", "kernels-community/flash-attn", "flash_attention_2", {"": "evil-org/kernel"}]
)
@pytest.mark.parametrize("kind", ["llama", "llava"])
def test_a_config_names_no_kernel_of_the_hub(said, kind, homes, kernels, tmp_path):
    folder = copied(homes[kind], tmp_path)
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        within = {name: {**held, key: said} for name, held in config_of(folder).items() if name.endswith("_config")}
        change(folder, "config.json", **{key: said}, **within)
    try:
        assert wb.load(folder).n_layers == 3
    except ModelError as error:
        assert "attn" in str(error)
    assert not kernels


def test_negative_control_hugging_face_alone_would_fetch_it(homes, kernels):
    from transformers import AutoModelForCausalLM

    with pytest.raises(ValueError, match="not there"):
        AutoModelForCausalLM.from_pretrained(homes["llama"], attn_implementation="kernels-community/flash-attn")
    assert kernels == ["kernels-community/flash-attn"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_beside_a_model_is_not_run(name, folder, monkeypatch):
    monkeypatch.setenv("WORKBENCH_EVIL", "no")
    (folder / "evil.py").write_text("import os\nos.environ['WORKBENCH_EVIL'] = 'yes'\n")
    maps = {
        "AutoConfig": "evil.A",
        "AutoModelForCausalLM": "evil.B",
        "AutoTokenizer": ["evil.C", "evil.C"],
        "AutoProcessor": "evil.D",
    }
    change(folder, name, auto_map=maps)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody is asked whether to trust"))
    try:
        wb.load(folder)
    except ModelError as error:
        assert "trust_remote_code" in str(error)
    assert os.environ["WORKBENCH_EVIL"] == "no"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", 0), ("num_attention_heads", "x"), ("num_hidden_layers", -1), ("hidden_size", None),
        ("hidden_size", 31),
        ("rope_parameters", []), ("model_type", 5), ("vocab_size", 3), ("num_key_value_heads", 3), ("head_dim", "../x"),
    ],
)  # fmt: skip
def test_configs_that_cannot_be_meant_are_one_line(key, value, folder):
    change(folder, "config.json", **{key: value})
    with pytest.raises(ModelError) as caught:
        wb.load(folder)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


HOSTILE = {
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a global": "{{ cycler.__init__.__globals__.os.environ }}",
    "a change": "{% set x = messages.append(1) %}",
    "no text": "hello",
    "the text twice": "{{ messages[0].content }} {{ messages[0].content }}",
    "a syntax error": "{% for %}",
    "a refusal": "{{ raise_exception('no') }}",
    "a division": "{{ 1 // 0 }}",
    "a long loop": "{% for i in range(10**9) %}{% endfor %}",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_templates_stay_in_the_sandbox_and_fail_in_a_line(what):
    tokenizer = tiny_models.tokenizer("llama")
    tokenizer.chat_template = HOSTILE[what]
    with pytest.raises(BadInput, match="template=none"):
        Assembler(tokenizer)
    assert Assembler(tokenizer, "none").template == "none"


def test_negative_control_a_sound_template_is_followed():
    tokenizer = tiny_models.tokenizer("llama")
    tokenizer.chat_template = "w1 {{ messages[0].content }} w2"
    assert Assembler(tokenizer).template == "chat"
    assert rendered(tokenizer, [{"role": "user", "content": "x"}], tokenize=False) == "w1 x w2"


def test_a_run_folder_does_not_say_whose_code_is_run(tmp_path, monkeypatch):
    """Two runs of circuits name a model whose code they say is to be trusted: who compares them was not asked."""
    from sample_circuits import IOI, circuit_of

    asked = []

    def loading(*words):
        asked.append(words)
        raise ModelError("not loaded here")

    monkeypatch.setattr("workbench_analyses.circuits.reuse_experiment.load", loading)
    for name in "ab":
        (tmp_path / name).mkdir()
        circuit_of(IOI).save(tmp_path / name / "circuit.json")
        question = {"model": "evil/model", "trust_remote_code": True, "seed": 0}
        record = {"schema": 1, "command": "trace-circuit", "question": question}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    for trusted in (False, True):
        main(
            ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "controls=0", f"trust_remote_code={trusted}".lower()]
        )
        assert asked[-1][0] == "evil/model" and asked[-1][3] is trusted
