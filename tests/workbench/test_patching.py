"""Path patching in closed form against its definition by hooks on the plain bridge."""

from __future__ import annotations

import pytest
import tiny_architectures
import tiny_models
import torch
from plain_patching import KINDS, LEFT, RIGHT, B, N, Plain, exact_model, prompts

import workbench as wb
from workbench.errors import BadInput, TooLarge, Unsupported

RECEIVERS = {
    "logits": ("logits", -1),
    "q": ([("q", 1, 1), ("q", 2, 5)], -1),
    "k": ([("k", 1, 1), ("k", 2, 0)], 6),
    "v": ([("v", 1, 1), ("v", 2, 0)], [7, 6, 8]),
    "z": ([("z", 1, 1), ("z", 2, 5)], -3),
    "mlp": ([("mlp", 1), ("mlp", 2)], [10, 6, 7]),
    "mixed": ([("q", 1, 3), ("k", 2, 1), ("v", 2, 1), ("z", 2, 6), ("mlp", 1)], 6),
}
PADDINGS = {"none": None, "left": LEFT, "right": RIGHT}


def columns(at, mask) -> torch.Tensor:
    """The column that `at` means, row by row."""
    given = [at] * B if isinstance(at, int) else at
    last = [N - 1] * B if mask is None else [int(row.nonzero()[-1]) for row in mask]
    return torch.tensor([a + e + 1 if a < 0 else a for a, e in zip(given, last, strict=True)])


def by_head(plain: Plain, receivers, at: torch.Tensor, frozen: bool) -> torch.Tensor:
    """Every head's effect by its definition, [batch, layers, heads]."""
    senders = [("head", layer, head) for layer in range(plain.n_layers) for head in range(8)]
    return plain.effects(senders, receivers, at, frozen).T.unflatten(-1, (-1, 8))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {kind: exact_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def plains(models):
    made = {}

    def plain(kind: str, padding: str) -> Plain:
        if (kind, padding) not in made:
            made[kind, padding] = Plain(models[kind], *prompts(), PADDINGS[padding])
        return made[kind, padding]

    return plain


@pytest.mark.parametrize("mlps", ["live", "frozen"])
@pytest.mark.parametrize("name", RECEIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_heads_have_the_effects_of_the_definition(kind, name, mlps, models, plains):
    receivers, at = RECEIVERS[name]
    for padding, mask in PADDINGS.items():
        ours = wb.patching.path_effects(
            models[kind], *prompts(), receivers, at, mlps, attention_mask=mask
        )  # fmt: skip
        want = by_head(plains(kind, padding), receivers, columns(at, mask), mlps == "frozen")
        torch.testing.assert_close(ours, want, rtol=0, atol=1e-10)
        assert ours.abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["logits", "k", "mixed"])
def test_mlps_and_embeddings_send_too(kind, name, models, plains):
    receivers, at = RECEIVERS[name]
    plain, where = plains(kind, "left"), columns(at, PADDINGS["left"])
    for mlps in ("live", "frozen"):
        options = {"at": at, "mlps": mlps, "attention_mask": PADDINGS["left"]}
        ours = wb.patching.path_effects(models[kind], *prompts(), receivers, senders="mlps", **options)
        want = plain.effects([("mlp", i) for i in range(3)], receivers, where, mlps == "frozen").T
        torch.testing.assert_close(ours, want, rtol=0, atol=1e-10)
        ours = wb.patching.path_effects(models[kind], *prompts(), receivers, senders="embeddings", **options)
        want = plain.effects([("embed",)], receivers, where, mlps == "frozen")[0]
        torch.testing.assert_close(ours, want, rtol=0, atol=1e-10)
        assert ours.abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_all_gives_the_receivers_the_whole_corrupted_run(kind, models, plains):
    mask, model = PADDINGS["left"], models[kind]
    plain, at = plains(kind, "left"), columns(6, PADDINGS["left"])
    for channel in ("q", "k", "v"):
        receivers = [(channel, 1, 1), (channel, 2, 0)]
        ours = wb.patching.path_effects(model, *prompts(), receivers, 6, senders="all", attention_mask=mask)
        names = [f"blocks.{layer}.attn.hook_{channel}" for layer in (1, 2)]
        _, other = model.bridge.run_with_cache(prompts()[1], names_filter=names, attention_mask=mask.long())
        hooks = {n: [plain._put(other[n], r, at)] for n, r in zip(names, receivers, strict=True)}
        torch.testing.assert_close(ours, plain._difference(hooks, 1)[0] - plain.base, rtol=0, atol=1e-10)
        assert ours.abs().max() > 1e-3
    ours = wb.patching.path_effects(model, *prompts(), [("mlp", 1)], 6, senders="all", attention_mask=mask)
    name = "blocks.1.hook_mlp_out"
    want = plain._difference({name: [plain._put(plain.other[name], ("mlp", 1), at)]}, 1)[0] - plain.base
    torch.testing.assert_close(ours, want, rtol=0, atol=1e-10)
    whole = wb.patching.path_effects(model, *prompts(), "logits", senders="all", attention_mask=mask)
    torch.testing.assert_close(
        whole, Plain(model, *(prompts()[i] for i in (1, 1, 2)), mask).base - plain.base, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("senders", ["heads", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_paths_from_one_recording_have_the_effects_of_each_alone(kind, senders, models):
    """Receivers whose lowest layers differ, and the logits, at one column of each row."""
    options = {"at": [7, 6, 8], "senders": senders, "attention_mask": PADDINGS["left"]}
    paths = ["logits", [("k", 2, 1)], [("v", 1, 1), ("v", 2, 0)], [("mlp", 1)]]
    together = wb.patching.effects_of_paths(models[kind], *prompts(), paths, **options)
    for path, ours in zip(paths, together, strict=True):
        alone = wb.patching.path_effects(models[kind], *prompts(), path, **options)
        torch.testing.assert_close(ours, alone, rtol=0, atol=1e-12)
        assert bool(alone.any()) == (path != "logits")  # nothing before the last column is seen there


def test_live_and_frozen_mlps_differ_and_so_do_channels(models):
    """The definition tells these apart, so that agreement with it means something."""
    found = [
        wb.patching.path_effects(models["llama"], *prompts(), receivers, at, mlps)
        for receivers, at in (RECEIVERS["k"], ([("q", 1, 1), ("q", 2, 0)], 6), ([("v", 1, 1), ("v", 2, 0)], 6))
        for mlps in ("live", "frozen")
    ]
    for i, one in enumerate(found):
        assert all((one - other).abs().max() > 1e-4 for other in found[:i])


def test_what_no_path_leads_from_has_no_effect(models):
    clean, corrupted, answers = prompts()
    model = models["gemma2"]
    ours = wb.patching.path_effects(model, clean, corrupted, answers, [("q", 1, 0)], -1)
    assert ours[:, 0].abs().max() > 1e-3 and not ours[:, 1:].any()
    assert wb.patching.path_effects(model, clean, clean.clone(), answers).abs().max() < 1e-12
    assert not wb.patching.path_effects(model, clean, corrupted, answers, at=[6, 6, 2]).any()  # not the last column


@pytest.mark.parametrize("name", ["logits", "v", "mixed"])
def test_the_chunk_changes_nothing(name, models):
    receivers, at = RECEIVERS[name]
    whole = wb.patching.path_effects(models["llama"], *prompts(), receivers, at)
    for memory in (150_000, 600_000):
        part = wb.patching.path_effects(models["llama"], *prompts(), receivers, at, memory=memory)
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-12)
    with pytest.raises(TooLarge, match="raise memory="):
        wb.patching.path_effects(models["llama"], *prompts(), receivers, at, memory=1000)


@pytest.mark.parametrize(
    "kind", [*KINDS, "qwen3", "gpt_oss", "gptj", "cohere", "granite", "falcon", "olmo2", "mixtral"]
)
def test_float32_agrees_to_rounding(kind, tmp_path):
    """Norms of queries and keys, learned sinks, experts, shared norms and multipliers are parts of these models, too."""
    of = tiny_architectures.config(kind) if kind in tiny_architectures.TEXT else None
    model = wb.load(tiny_models.save(kind, tmp_path, of=of))
    plain = Plain(model, *prompts(), PADDINGS["left"])
    for name in ("logits", "v" if kind == "olmo2" else "mixed"):  # its norm of q is one for all heads, behind hook_q
        receivers, at = RECEIVERS[name]
        given = [one if one[0] not in ("k", "v") else (*one[:2], one[2] % model.n_kv_heads) for one in receivers]
        receivers = receivers if name == "logits" else given
        ours = wb.patching.path_effects(model, *prompts(), receivers, at, attention_mask=PADDINGS["left"])
        want = by_head(plain, receivers, columns(at, PADDINGS["left"]), frozen=False)
        torch.testing.assert_close(ours, want, rtol=0, atol=2e-5)
        assert ours.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("afmoe", "layer 0 writes to the residual stream in a way"),  # a gate behind its heads
        ("gemma4_text", "layer 0 writes to the residual stream in a way"),
        ("lfm2", "path patching needs attention and an MLP"),
        ("modernbert-decoder", "makes its logits in a way"),
        ("opt", "no module of its own"),
    ],
)
def test_other_blocks_are_refused_by_name(kind, said, tmp_path):
    model = wb.load(tiny_models.save(kind, tmp_path, of=tiny_architectures.config(kind)))
    with pytest.raises(Unsupported, match=said) as raised:
        wb.patching.path_effects(model, *prompts())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_bfloat16_is_within_its_rounding_of_its_own_definition(kind, tmp_path):
    model = wb.load(tiny_models.save(kind, tmp_path), dtype=torch.bfloat16)
    plain = Plain(model, *prompts(), PADDINGS["left"])
    for name in ("logits", "v"):
        receivers, at = RECEIVERS[name]
        ours = wb.patching.path_effects(model, *prompts(), receivers, at, attention_mask=PADDINGS["left"])
        want = by_head(plain, receivers, columns(at, PADDINGS["left"]), frozen=False).float()
        assert (ours - want).abs().mean() < 0.04 and (ours - want).abs().max() < 0.3
        if name == "logits":  # those of v are of the size of the rounding
            assert torch.corrcoef(torch.stack([ours.flatten(), want.flatten()]))[0, 1] > 0.995


def test_a_block_that_writes_otherwise_is_refused(tmp_path):
    """Nothing is assumed of a model: what its parts say is compared with what it does."""
    model = exact_model("llama", tmp_path)
    block = model.bridge.blocks[1].original_component
    handle = block.register_forward_hook(lambda _, __, out: out * 1.001)
    with pytest.raises(Unsupported, match="layer 1 writes to the residual stream"):
        wb.patching.path_effects(model, *prompts())
    handle.remove()
    handle = model.bridge.original_model.register_forward_hook(lambda _, __, out: _scaled(out))
    with pytest.raises(Unsupported, match="makes its logits"):
        wb.patching.path_effects(model, *prompts())
    handle.remove()
    assert wb.patching.path_effects(model, *prompts()).any()


def _scaled(out):
    out["logits"] = out["logits"] * 1.001
    return out


def test_company_is_refused_and_nothing_is_left_behind(models):
    model = models["gpt2"]
    with wb.intervene(model, wb.mask([(0, 0)])), pytest.raises(Unsupported, match="outside `intervene`"):
        wb.patching.path_effects(model, *prompts())
    with (
        model.bridge.hooks(fwd_hooks=[("blocks.0.attn.hook_z", lambda x, hook: x)]),
        pytest.raises(Unsupported, match="remove the hook on blocks.0"),
    ):
        wb.patching.path_effects(model, *prompts())
    before = model.bridge(prompts()[0])
    wb.patching.path_effects(model, *prompts(), *RECEIVERS["mixed"])
    assert torch.equal(model.bridge(prompts()[0]), before) and model.seam.plan is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"receivers": "residual"}, "give 'logits', or a list"),
        ({"receivers": []}, "give 'logits', or a list"),
        ({"receivers": ["q"]}, "give a list of"),
        ({"receivers": [("q", 1)]}, "('mlp', layer)"),
        ({"receivers": [("pattern", 1, 0)]}, "('mlp', layer)"),
        ({"receivers": [("k", 1, 2)]}, "3 layers of 2 key-value heads"),
        ({"receivers": [("q", 3, 0)]}, "3 layers of 8 heads"),
        ({"receivers": [("mlp", 3)]}, "the model has 3 layers"),
        ({"at": 11}, "outside the text"),
        ({"at": [0, 1]}, "one for each of the 3 batch rows"),
        ({"at": 0, "attention_mask": PADDINGS["left"]}, "on padding"),
        ({"at": 1.5}, "one whole number"),
        ({"mlps": "off"}, "live or frozen"),
        ({"senders": "neurons"}, "heads, mlps, embeddings"),
        ({"answers": torch.zeros(3, 3).long()}, "the answer and its foil"),
        ({"answers": torch.ones(2, 2).long()}, "2 rows of answers for 3 prompts"),
        ({"answers": torch.full((3, 2), 97)}, "vocabulary of 97"),
        ({"corrupted": torch.ones(3, 10).long()}, "two [batch, seq] of one size"),
        ({"attention_mask": torch.zeros(3, 11)}, "text in every row"),
    ],
)
def test_bad_input_is_one_line(change, said, models):
    clean, corrupted, answers = prompts()
    given = {"clean": clean, "corrupted": corrupted, "answers": answers, **change}
    with pytest.raises(BadInput) as raised:
        wb.patching.path_effects(models["llama"], **given)
    assert said in str(raised.value) and "\n" not in str(raised.value)
