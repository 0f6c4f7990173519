"""Readings of visual heads against float64 forwards of Hugging Face, one caption at a time."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_architectures
import tiny_models
import torch
from flooding import entropy_by_hand
from tiny_models import IMAGE, PATCHES

import workbench as wb
from workbench import images, visual
from workbench.errors import BadInput
from workbench.images import Prompt
from workbench.visual.told import Told

N, FIRST = 9, 2
LENGTH = [5, 2, 0, 4]
DIMS, TAU = [3, 17, 30], 1.3


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return wb.load(tiny_models.save("llava", tmp_path_factory.mktemp("llava")))


@pytest.fixture(scope="module")
def plain(llava):
    """As Hugging Face runs it, in float64."""
    return tiny_models.hugging_face(llava.label).double()


@pytest.fixture(scope="module")
def told(llava):
    return captions(llava)


@pytest.fixture(scope="module")
def seen(llava, told):
    return visual.read(llava, told, tau=TAU, dims=DIMS)


def captions(model, seed: int = 0, pixels: torch.Tensor | None = None) -> Told:
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(3, IMAGE - 2, (len(LENGTH), N), generator=random)
    x[:, FIRST : FIRST + PATCHES] = IMAGE
    pixels = torch.randn(len(LENGTH), 3, 8, 8, generator=random) if pixels is None else pixels
    said = torch.randint(3, IMAGE - 2, (len(LENGTH), max(LENGTH)), generator=random)
    return Told(Prompt(x, {"pixel_values": pixels}), said, torch.tensor(LENGTH), images.positions(model, x))


def forward(hf, told: Told, row: int, kind: str = "seen", out: tuple[int, int] | None = None) -> dict:
    """One caption alone: patterns, head outputs, streams and logits. out: a head whose output is zeroed."""
    x, pixels = told.prompt.tokens[row], told.prompt.inputs["pixel_values"][row : row + 1].double()
    x = x[x != IMAGE] if kind == "unseen" else x
    x = torch.cat([x, told.said[row, : LENGTH[row]]])[None]
    pixels = {"unseen": None, "blank": 0 * pixels + 1e-6, "seen": pixels}[kind]
    z, hooks = {}, []
    for i, layer in enumerate(hf.model.language_model.layers):

        def hook(module, args, i=i):
            heads = args[0].unflatten(-1, (8, -1)).clone()
            if out is not None and out[0] == i:
                heads[:, :, out[1]] = 0
            z[i] = heads[0]
            return (heads.flatten(-2),)

        hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(hook))
    try:
        with torch.no_grad():
            got = hf(x, pixel_values=pixels, output_attentions=True, output_hidden_states=True)
    finally:
        for h in hooks:
            h.remove()
    return {"z": z, "attention": got.attentions, "stream": got.hidden_states, "logits": got.logits[0]}


def test_every_number_of_a_reading_equals_float64_forwards_of_single_captions(plain, told, seen):
    span = slice(FIRST, FIRST + PATCHES)
    assert len(seen) == len(LENGTH) and np.isnan(seen.mass[2]).all(), "a caption without a token has no number"
    for row, length in enumerate(LENGTH):
        one, none, blank = (forward(plain, told, row, kind) for kind in ("seen", "unseen", "blank"))
        for layer in range(3):
            pattern = one["attention"][layer][0]
            x = one["stream"][layer][0]
            phi = (x[:, DIMS].abs().amax(-1) / x.square().mean(-1).sqrt())[span]
            np.testing.assert_allclose(seen.sinks[row, layer], (phi >= TAU).double().mean(), atol=1e-12)
            look = pattern[:, N - 1, span].numpy()
            np.testing.assert_allclose(seen.looks[row, layer], look.sum(-1), atol=1e-5)
            hand = [entropy_by_hand(h.reshape(2, 2)) for h in look]
            np.testing.assert_allclose(seen.entropy[row, layer], hand, atol=1e-3)
            for step in range(length):
                at = N - 1 + step
                a, b, c = one["z"][layer][at], none["z"][layer][at - PATCHES], blank["z"][layer][at]
                mass = pattern[:, at, span]
                expected = {"mass": mass.sum(-1), "on_sinks": mass[:, phi >= TAU].sum(-1), "quiet": b.norm(dim=-1)}
                for name, other in (("", b), ("blank_", c)):
                    expected[f"{name}l2"] = (a - other).norm(dim=-1)
                    expected[f"{name}relative"] = (a - other).norm(dim=-1) / a.norm(dim=-1)
                    expected[f"{name}cosine"] = 1 - torch.cosine_similarity(a, other, dim=-1)
                for name, value in expected.items():
                    ours = getattr(seen, name)[row, step, layer]
                    np.testing.assert_allclose(
                        ours, value.numpy(), atol=2e-5, rtol=2e-5, err_msg=f"{name} {row} {step} {layer}"
                    )
        assert all(np.isnan(getattr(seen, n)[row, length:]).all() for n in ("mass", "l2", "blank_cosine", "quiet"))
    assert 0 < seen.sinks.mean() < 1 and seen.l2[0, 0].min() > 1e-3 and np.nanstd(seen.mass) > 0.01


def test_scores_are_means_over_the_tokens_of_captions_that_have_any(llava, seen):
    said = [0, 1, 3]
    scores = visual.image_mass(seen, **visual.about(llava))
    hand = np.stack([seen.mass[i, : LENGTH[i]].mean(0) for i in said])
    np.testing.assert_allclose(scores.per_sample, hand, atol=1e-12)
    assert scores.n == 3 and scores.verified and scores.kv_heads == 2 and scores.parameters["tokens"] == "mean"
    low, high = scores.interval()
    assert (low < scores.values).all() and (scores.values < high).all()
    np.testing.assert_allclose(visual.vhd(seen, at="first").per_sample, seen.l2[said, 0])
    for measure in ("l2", "relative", "cosine"):
        for against in ("nothing", "blank"):
            each = getattr(seen, ("blank_" if against == "blank" else "") + measure)
            found = visual.vhd(seen, measure, against)
            np.testing.assert_allclose(found.values, np.mean([np.nanmean(each[i], 0) for i in said], 0), atol=1e-12)
            assert found.parameters == {"tokens": "mean", "measure": measure, "against": against}
    share = np.nanmean((seen.on_sinks / seen.mass)[said], 1)
    np.testing.assert_allclose(visual.visual_sinks(seen).per_sample, share, atol=1e-9)
    centric = (seen.on_sinks <= 0.5 * seen.mass) & (seen.mass >= 0.2)
    hand = np.mean([centric[i, : LENGTH[i]].mean(0) for i in said], 0)
    np.testing.assert_allclose(visual.image_centric(seen).values, hand, atol=1e-12)
    assert 0 < hand.mean() < 1


def test_t_vhd_sums_the_largest_of_each_layer(seen):
    for k in (1, 3, 8, None):
        hand = np.full((4, 5), np.nan)
        for row, length in enumerate(LENGTH):
            for step in range(length):
                hand[row, step] = sum(sum(sorted(heads)[-(k or 4) :]) for heads in seen.l2[row, step].tolist())
        np.testing.assert_allclose(visual.t_vhd(seen, k), hand, atol=1e-9)


def test_an_equal_picture_changes_nothing(llava):
    """Negative control: a blank picture against a blank one, and a head's output against itself."""
    same = visual.read(llava, captions(llava, pixels=torch.zeros(len(LENGTH), 3, 8, 8)), dims=[])
    for name in ("l2", "relative", "cosine"):
        assert np.nanmax(np.abs(getattr(same, f"blank_{name}"))) < 1e-6 and np.nanmax(getattr(same, name)) > 0.1
    assert not same.sinks.any() and not visual.visual_sinks(same).values.any(), "no sink dimension, no visual sink"


def test_batches_of_other_captions_give_the_same_numbers(llava, told, seen):
    parts = [visual.read(llava, told.some(rows), tau=TAU, dims=DIMS).arrays() for rows in ([0], [1, 2], [3])]
    joined = visual.Reading.joined(parts).arrays()
    assert joined["mass"].shape == seen.mass.shape
    for name, value in seen.arrays().items():
        np.testing.assert_allclose(joined[name], value, atol=1e-4 if name == "entropy" else 1e-5, err_msg=name)


def test_half_precision_differs_by_its_rounding(llava, told, seen):
    half = wb.load(llava.label, "bfloat16")
    read = visual.read(half, told, tau=TAU, dims=DIMS)
    assert 1e-5 < np.nanmedian(np.abs(read.mass - seen.mass)) < 0.02
    assert np.nanmedian(np.abs(read.l2 / seen.l2 - 1)) < 0.05
    ours, theirs = (visual.word_effects(m, told, words(), "log").ravel() for m in (half, llava))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9


def test_sink_dimensions_are_where_the_first_token_stands_out(llava, plain, told):
    first = told.prompt.tokens[:1, :1]
    with torch.no_grad():
        streams = plain(first, output_hidden_states=True).hidden_states[:3]
    stands = torch.stack([x[0, 0].abs() / x[0, 0].square().mean().sqrt() for x in streams])
    for tau in (1.0, 1.5, 5.6):
        expected = ((stands >= tau).sum(0) >= 2).nonzero().flatten().tolist()
        assert visual.sink_dimensions(llava, first, tau) == expected
        assert bool(expected) == (tau < 5), "√32 is 5.7: nothing stands out that far twice"


WORDS = [(0, 0, True), (0, 4, False), (1, 1, True), (3, 0, False), (3, 2, True), (3, 2, True)]


def words() -> list[visual.Word]:
    return [visual.Word(row, step, "cup", invented) for row, step, invented in WORDS]


@pytest.mark.parametrize("batch", [3, 7, 256])
def test_effects_equal_a_forward_for_each_head(llava, plain, told, batch):
    found = visual.word_effects(llava, told, words(), batch=batch)
    logs = visual.word_effects(llava, told, words(), "log", batch)
    for row in (0, 1, 3):
        mine = [(i, w) for i, w in enumerate(words()) if w.row == row]
        base = forward(plain, told, row)["logits"].log_softmax(-1)
        for layer in range(3):
            for head in range(8):
                cut = forward(plain, told, row, out=(layer, head))["logits"].log_softmax(-1)
                for i, w in mine:
                    at, token = N - 1 + w.step, told.said[row, w.step]
                    change = base[at, token].exp() - cut[at, token].exp()
                    assert found[i, layer, head] == pytest.approx(float(change), abs=2e-6)
                    assert logs[i, layer, head] == pytest.approx(float(base[at, token] - cut[at, token]), abs=2e-4)
    assert np.abs(found).max() > 1e-3
    np.testing.assert_array_equal(np.abs(found), visual.word_effects(llava, told, words(), "absolute", batch))


@pytest.mark.parametrize("kind", ["gemma3", "qwen2_5_vl", "idefics3"])
def test_other_families_are_read_and_contrasted(kind, tmp_path):
    """Where masks follow the picture no forward resumes, and patches of all rows may come in one piece."""
    model = wb.load(tiny_models.save(kind, tmp_path, of=tiny_architectures.seeing(kind)))
    for name, p in model.bridge.original_model.named_parameters():
        if name.endswith("mm_input_projection_weight"):  # zeros in a new Gemma 3, which then sees nothing
            p.data.normal_()
    x, inputs = seeing_prompt(kind)
    said = torch.randint(3, 90, (2, 4), generator=torch.Generator().manual_seed(4))
    told = Told(Prompt(x, inputs), said, torch.tensor([4, 2]), images.positions(model, x))
    if told.one_a_row:
        seen = visual.read(model, told)
    else:
        with pytest.raises(BadInput, match="give fewer captions at a time"):
            visual.read(model, told)
        alone = [Told(alone_prompt(x, inputs, i), said[i : i + 1], told.length[i : i + 1], told.pictures[i : i + 1])
                 for i in range(2)]  # fmt: skip
        seen = visual.Reading.joined([visual.read(model, one).arrays() for one in alone])
    assert seen.mass.shape == (2, 4, 3, 8) and np.nanmin(seen.l2) > 0 and np.nanmin(seen.blank_l2) > 0
    assert np.isfinite(seen.entropy).all()
    said = [visual.Word(0, 3, "cup", True), visual.Word(1, 0, "cup", False)]
    found = visual.word_effects(model, told, said, batch=5)
    rows = told.seen()
    base = model(rows.tokens, rows.mask, rows.inputs).softmax(-1)
    for layer, head in ((0, 3), (2, 7)):
        with wb.intervene(model, wb.mask([(layer, head)])):
            cut = model(rows.tokens, rows.mask, rows.inputs).softmax(-1)
        for i, w in enumerate(said):
            at, token = x.shape[1] - 1 + w.step, told.said[w.row, w.step]
            expected = float(base[w.row, at, token] - cut[w.row, at, token])
            assert found[i, layer, head] == pytest.approx(expected, abs=2e-5)


def alone_prompt(x: torch.Tensor, inputs: dict[str, torch.Tensor], row: int) -> Prompt:
    """One row of two whose patches are joined."""
    return Prompt(x[row : row + 1], {k: v.chunk(2)[row] for k, v in inputs.items()})


def seeing_prompt(kind: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(3)
    x = torch.randint(3, 90, (2, 10), generator=random)
    x[:, 3:7] = IMAGE
    pixels = torch.randn(2, 3, 8, 8, generator=random)
    if kind == "gemma3":
        return x, {"pixel_values": pixels, "token_type_ids": (x == IMAGE).long()}
    if kind == "idefics3":
        return x, {"pixel_values": pixels[:, None], "pixel_attention_mask": torch.ones(2, 1, 8, 8, dtype=torch.bool)}
    x[:, 2] = IMAGE + 2
    patches = pixels.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(8, -1)
    return x, {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, 2, 2]] * 2),
               "mm_token_type_ids": (x == IMAGE).long()}  # fmt: skip


def test_localised_heads_come_first_and_blind_ones_are_not_scored(seen):
    from dataclasses import replace

    looks, entropy = np.full((3, 2, 3), 0.02), np.full((3, 2, 3), 1.0)
    looks[:, 0, :2], entropy[:, 0, 0], entropy[:, 0, 1] = 0.8, 0.1, [0.5, 0.7, 0.9]
    entropy[:, 1, 2] = 0.0  # one place, but hardly any attention
    scores = visual.localisation(replace(seen, looks=looks, entropy=entropy))
    assert [tuple(h) for h in scores.rank()] == [(0, 0), (0, 1)] and int(scores.scored.sum()) == 2
    assert scores.values[0, 1] == pytest.approx(-0.7) and scores.parameters["kept"] == 2
    with pytest.raises(BadInput, match="is not known for this model"):
        visual.localisation(replace(seen, entropy=entropy * np.nan))


def test_what_cannot_be_meant_is_said_in_a_line(llava, told, seen):
    x, fit = told.prompt.tokens.clone(), {"pixel_values": told.prompt.inputs["pixel_values"]}
    few = torch.where(torch.arange(N) == FIRST, 5, x)
    x[1, FIRST] = 5
    for run, said in [
        (lambda: Told(Prompt(x, fit), told.said, told.length, x == IMAGE), "hold 3, 4 parts of pictures"),
        (lambda: visual.tell(llava, Prompt(few, fit), 2), "do not match"),
        (lambda: Told(told.prompt, told.said[:2], told.length, told.pictures), "4 prompts"),
        (lambda: visual.tell(llava, Prompt(told.prompt.tokens[:, :2], {}), 2), "at least one"),
        (lambda: visual.word_effects(llava, told, [visual.Word(1, 2, "cup", True)]), "token 2 of caption 1"),
        (lambda: visual.word_effects(llava, told, words(), "odds"), "measure=odds"),
        (lambda: visual.vhd(seen, "l1"), "measure=l1"),
        (lambda: visual.image_mass(seen, at="last"), "at=last"),
        (lambda: visual.t_vhd(seen, 9), "k=9: give 1 to 8"),
    ]:
        with pytest.raises(BadInput, match=said) as caught:
            run()
        assert "\n" not in str(caught.value)
