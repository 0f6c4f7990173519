"""A model whose weights lie partly on disk gives the scores, edits and identity of the whole one."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.errors import ModelError, Unsupported
from workbench.masks import compact_mask
from workbench.offloading import OwnFolder, device_of, named_values, offloaded, present
from workbench.placing import Placement
from workbench.sources import locate

NAMES = ("llama", "gpt2")


def size(model) -> int:
    return sum(p.numel() * p.element_size() for p in model.bridge.original_model.parameters())


@pytest.fixture(scope="module", params=NAMES)
def pair(request, tmp_path_factory):
    """The same model whole, and with about half of its weights on disk."""
    whole = wb.load(request.param)
    folder = tmp_path_factory.mktemp("disk")
    part = wb.load(request.param, device=f"auto:cpu={size(whole) // 2},disk={folder}")
    assert offloaded(part.bridge.original_model) and not offloaded(whole.bridge.original_model)
    places = set(map(str, part.bridge.original_model.hf_device_map.values()))
    assert places == {"cpu", "disk"}
    return whole, part


@pytest.fixture
def tokens(pair):
    return torch.randint(5, pair[0].bridge.cfg.d_vocab, (3, 40))


def test_it_is_the_same_model(pair):
    whole, part = pair
    assert part.identity() == whole.identity() and part.device == torch.device("cpu") == device_of(
        part.bridge.original_model
    )


def test_every_weight_has_its_values_and_is_put_away_again(pair):
    whole, part = pair
    true = dict(whole.bridge.original_model.named_parameters())
    seen = set()
    for name, p in named_values(part.bridge.original_model):
        assert p.device.type == "cpu" and torch.equal(p, true[name])
        seen.add(name)
    assert seen == set(true) and offloaded(part.bridge.original_model)


def test_logits_statistics_and_generated_texts_are_equal_bit_for_bit(pair, tokens):
    whole, part = pair
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, :7], mask[1, -5:] = False, False
    assert torch.equal(whole(tokens, mask), part(tokens, mask))
    asked = [wb.probes.received(), wb.probes.entropy(), wb.probes.top_keys(3), wb.probes.norms()]
    a, b = (wb.observe(m, tokens, asked) for m in pair)
    for name in ("received", "entropy", "norms"):
        assert torch.equal(a[name], b[name]) and not a[name].isnan().all()
    assert torch.equal(whole.generate(tokens, 8), part.generate(tokens, 8))


def test_edits_and_resumed_forwards_are_equal_and_change_something(pair, tokens):
    whole, part = pair
    heads = [(1, 0), (2, 3)]
    plain = part(tokens)
    with wb.intervene(whole, wb.mask(heads)), wb.intervene(part, wb.mask(heads)):
        edited = part(tokens)
        assert torch.equal(whole(tokens), edited) and not torch.equal(edited, plain)
    resid = part.resid_pre(2, tokens)
    assert torch.equal(resid, whole.resid_pre(2, tokens))
    assert torch.equal(part.forward_from(2, resid).logits, whole.forward_from(2, resid).logits)


def test_the_hooks_backend_is_equal_too(pair, tokens):
    for model in pair:
        model.backend = "hooks"
    try:
        a, b = (wb.observe(m, tokens, [wb.probes.received()])["received"] for m in pair)
    finally:
        for model in pair:
            model.backend = "auto"
    assert torch.equal(a, b)


def test_what_reads_weights_itself_is_refused(pair, tokens):
    _, part = pair
    answers = torch.tensor([[5, 6]] * 3)
    with pytest.raises(Unsupported, match="load it whole on one device"):
        wb.patching.path_effects(part, tokens, tokens.flip(1), answers, "logits")
    with pytest.raises(Unsupported, match="load it whole"):
        wb.patching.activation_effects(part, tokens, tokens.flip(1), answers)


@pytest.mark.slow
def test_a_scan_finds_the_same_scores(tmp_path):
    scan, options = wb.analyses.retrieval_heads.scan, dict(
        lengths=(96,), depths=(50.0,), rounds=6, until=None, proof="none", out=None)  # fmt: skip
    model = wb.load("llama")
    whole = scan(model, **options)
    part = scan("llama", device=f"auto:cpu={size(model) // 3},disk={tmp_path}", **options)
    np.testing.assert_array_equal(whole.scores.values, part.scores.values)
    assert whole.scores.model == part.scores.model and np.nanmax(whole.scores.values) > 0


def test_a_mask_is_brought_to_the_device_of_a_layer():
    padded = torch.tensor([[False, True, True], [True, True, True]])
    mask = compact_mask(2, 3, 3, attention_mask=padded)
    there = mask.to("meta", non_blocking=True)
    assert mask.padding is not None and there.padding is not None and mask.padding.device.type == "cpu"
    assert there.device.type == there.padding.device.type == "meta" and (there.queries, there.keys) == (3, 3)
    assert mask.to("cpu").spec(1.0).padding.equal(mask.padding)


def test_negative_control_a_placeholder_has_no_values(pair):
    _, part = pair
    model = part.bridge.original_model
    module = next(m for m in model.modules() if any(p.device.type == "meta" for p in m.parameters(recurse=False)))
    p = next(iter(dict(module.named_parameters(recurse=False))))
    assert getattr(module, p).device.type == "meta"
    with present(module):
        assert getattr(module, p).device.type == "cpu"
    assert getattr(module, p).device.type == "meta"


def test_a_dict_of_places_by_hand(tmp_path):
    whole = wb.load("llama")
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(whole.n_layers)}
    part = wb.load("llama", device=Placement(device_map=places, offload_folder=str(tmp_path)))
    tokens = torch.randint(5, 200, (2, 30))
    assert torch.equal(part(tokens), whole(tokens)) and part.identity() == whole.identity()
    assert Path(tmp_path).exists()


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    """Folders of two models that differ in their weights alone; transformers re-saves experts as it offloads them."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=128,
    )  # fmt: skip
    folders = [tmp_path_factory.mktemp("mixture") for _ in range(2)]
    for folder in folders:
        MixtralForCausalLM(config).save_pretrained(folder)
        for file in Path(locate("llama", False).place).glob("*token*"):
            shutil.copy(file, folder)
    return folders


def test_two_models_of_one_disk_folder_keep_their_own_experts(mixtures, tmp_path):
    device, tokens = f"auto:cpu=20KB,disk={tmp_path / 'new'}", torch.randint(5, 200, (2, 20))
    true = [wb.load(folder)(tokens) for folder in mixtures]
    assert not torch.equal(*true)
    models = [wb.load(folder, device=device) for folder in mixtures]
    written = [*tmp_path.rglob("*.safetensors")]
    assert len(written) == len({f.name for f in written}) * 2 > 0, "both write, under the same names"
    for model, logits in zip(models, true, strict=True):
        assert torch.equal(model(tokens), logits)
    del model
    first = models.pop(0)
    models.clear()
    gc.collect()
    assert len([*(tmp_path / "new").iterdir()]) == 1, "a model that is gone takes its folder with it"
    assert torch.equal(first(tokens), true[0])
    del first
    gc.collect()
    assert not [*(tmp_path / "new").iterdir()]


def test_a_load_that_fails_leaves_nothing_on_disk(tmp_path, mixtures):
    broken = shutil.copytree(mixtures[0], tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError):
        wb.load(broken, device=f"auto:cpu=20KB,disk={tmp_path / 'disk'}")
    gc.collect()
    assert not [*(tmp_path / "disk").iterdir()]


def test_a_forked_child_leaves_the_folder_to_its_parent(tmp_path):
    folder = OwnFolder(tmp_path)
    child = os.fork()
    if child == 0:
        del folder
        os._exit(0)
    os.waitpid(child, 0)
    assert Path(folder.path).is_dir()
    del folder
    assert not [*tmp_path.iterdir()]


def test_a_disk_that_cannot_be_written_is_told_in_a_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="disk=.*file: no weights can be kept there: "):
        wb.load("llama", device=f"auto:cpu=1MB,disk={tmp_path / 'file'}")
