"""A vision-language model through the seam, pictures in the batch: against Hugging Face, the bridge and plain hooks."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from tiny_models import IMAGE, PATCHES

import workbench as wb
from workbench import images, probes
from workbench.errors import BadInput, Unsupported

N, FIRST = 24, 5
SPAN = tuple(range(FIRST, FIRST + PATCHES))
HEADS = [(0, 1), (1, 3), (1, 6), (2, 0)]


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return wb.load(tiny_models.save("llava", tmp_path_factory.mktemp("llava")))


@pytest.fixture(scope="module")
def hugging_face(llava):
    return tiny_models.hugging_face(llava.label)


def tokens(b: int = 3, n: int = N, seed: int = 0) -> torch.Tensor:
    x = torch.randint(3, IMAGE, (b, n), generator=torch.Generator().manual_seed(seed))
    x[:, list(SPAN)] = IMAGE
    return x


def pictures(b: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(b, 3, 8, 8, generator=torch.Generator().manual_seed(seed))}


def padded(side: str) -> torch.Tensor:
    pad, j = torch.tensor([0, 2, 4])[:, None], torch.arange(N)[None]
    return {"left": j >= pad, "right": j < N - pad, "none": j.expand(3, -1) >= 0}[side]


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 5e-6) -> None:
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("side", ["none", "left", "right"])
@torch.no_grad()
def test_logits_equal_hugging_face_and_the_bridge(llava, hugging_face, side: str):
    x, keep, seen = tokens(), padded(side), pictures()
    places = (keep.cumsum(-1) - 1).clamp_min(0) if side == "left" else None
    theirs = hugging_face(x, attention_mask=keep.long(), position_ids=places, **seen).logits[keep]
    ours = llava(x, keep, seen)[keep]
    close(ours, theirs)
    close(ours, llava.bridge(x, attention_mask=keep.long(), **seen)[keep])
    assert (llava(x, keep, pictures(seed=1))[keep] - theirs).abs().max() > 0.1, "the pictures must matter"


@torch.no_grad()
def test_hooks_fire_and_edit(llava):
    x, seen = tokens(), pictures()

    def edit(t, hook):
        t = t.clone()
        t[:, 3:9] = t[:, 3:9].flip(-1)
        return t

    plain = llava(x, inputs=seen)
    for name in [*(f"blocks.1.attn.hook_{p}" for p in "qkvz"), "blocks.1.hook_out", "vision_projector.hook_out"]:
        theirs = llava.bridge.run_with_hooks(x, fwd_hooks=[(name, edit)], **seen)
        with llava.bridge.hooks(fwd_hooks=[(name, edit)]):
            ours = llava(x, inputs=seen)
        close(ours, theirs)
        assert (ours - plain).abs().max() > 1e-3 * plain.abs().max(), f"{name} did nothing"


@torch.no_grad()
def test_edits_of_the_pictures_keys_equal_plain_hooks(llava):
    x, seen = tokens(), pictures()

    def amplified(p, hook):
        p = p.clone()
        for h in (h for layer, h in HEADS if layer == hook.layer()):
            p[:, h, :, list(SPAN)] *= 3
            p[:, h] /= p[:, h].sum(-1, keepdim=True)
        return p

    def louder(s, hook):
        s = s.clone()
        for h in (h for layer, h in HEADS if layer == hook.layer()):
            part = s[:, h, :, list(SPAN)]
            s[:, h, :, list(SPAN)] = torch.where(part > -1e30, part + 0.4 * part.abs(), part)
        return s

    def zero(z, hook):
        z = z.clone()
        z[:, :, [h for layer, h in HEADS if layer == hook.layer()]] = 0
        return z

    for edit, point, hook in [
        (wb.amplify(HEADS, SPAN, 3), "hook_pattern", amplified),
        (wb.pai(HEADS, SPAN, 0.4), "hook_attn_scores", louder),
        (wb.mask(HEADS), "hook_z", zero),
    ]:
        theirs = llava.bridge.run_with_hooks(
            x, fwd_hooks=[(f"blocks.{i}.attn.{point}", hook) for i in range(3)], **seen
        )
        with wb.intervene(llava, edit):
            close(llava(x, inputs=seen), theirs, 2e-5)
        assert (theirs - llava(x, inputs=seen)).abs().max() > 1e-3 * theirs.abs().max()


@pytest.mark.parametrize("at", ["both", "prefill", "decode"])
@torch.no_grad()
def test_cached_decoding_has_seen_the_pictures(llava, at):
    x, keep, seen = tokens(), padded("left"), pictures()
    edit = wb.amplify(HEADS, SPAN, 5, at=at) + wb.scale([(2, 3)], 0.3, at=at)
    whole = llava.forward(x, keep, inputs=seen, edits=edit, decode_from=[15]).logits
    step = llava.forward(x[:, :16], keep[:, :16], inputs=seen, edits=edit, decode_from=[15], use_cache=True)
    parts, cache = [step.logits], step.cache
    for i in range(16, N):
        step = llava.forward(x[:, i : i + 1], keep[:, : i + 1], edits=edit, decode_from=[15], cache=cache)
        parts.append(step.logits)
    close(torch.cat(parts, 1)[keep], whole[keep], 2e-5)
    assert (whole - llava(x, keep, seen))[keep].abs().max() > 1e-3


@torch.no_grad()
def test_a_reference_has_seen_pictures(llava):
    x, seen, found = tokens(), pictures(), {}
    hooks = [("blocks.1.attn.hook_z", lambda z, hook: found.__setitem__("z", z))]
    llava.bridge.run_with_hooks(x, fwd_hooks=hooks, **seen)
    mean = wb.reference(llava, x, inputs=seen)
    torch.testing.assert_close(mean.values[1, :, 0], found["z"].mean((0, 1)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_generation_equals_hugging_face(llava, hugging_face):
    x, keep, seen = tokens(), padded("left"), pictures()
    theirs = hugging_face.generate(
        x, attention_mask=keep.long(), max_new_tokens=12, do_sample=False, eos_token_id=[], **seen
    )
    ours = llava.generate(x, 12, stop=[], attention_mask=keep, inputs=seen)
    assert ours.tolist() == theirs[:, N:].tolist()
    with wb.intervene(llava, wb.amplify(HEADS, SPAN, 50)):
        assert llava.generate(x, 12, stop=[], attention_mask=keep, inputs=seen).tolist() != ours.tolist()


@torch.no_grad()
def test_what_heads_see_of_a_picture(llava):
    """The vision tower's own attention is left as it is: not causal, and no head of the language model."""
    x, seen, found = tokens(), pictures(), {}
    hooks = [(f"blocks.{i}.attn.hook_pattern", lambda p, hook: found.__setitem__(hook.layer(), p)) for i in range(3)]
    tower = []
    llava.bridge.run_with_hooks(
        x, fwd_hooks=[*hooks, ("vision_encoder.hook_out", lambda t, hook: tower.append(t))], **seen
    )
    at = wb.observe(llava, x, [probes.mass([(FIRST, FIRST + PATCHES)]), probes.received(), probes.norms()], inputs=seen)
    theirs = torch.stack([found[i][..., list(SPAN)].sum(-1) for i in range(3)])
    torch.testing.assert_close(at["mass"][..., 0], theirs, atol=2e-5, rtol=2e-5)
    looks = [("vision_encoder.hook_out", lambda t, hook: tower.append(t))]
    with llava.bridge.hooks(fwd_hooks=looks), wb.observing(llava, [probes.entropy()]) as during:
        llava.generate(x, 3, stop=[], inputs=seen)
    assert len(during.calls) == 3 and len(tower) == 2, "a picture is looked at once"
    assert torch.equal(*(t if isinstance(t, torch.Tensor) else t.last_hidden_state for t in tower))


def test_gradients_reach_the_pixels(llava):
    x, names = tokens(), [f"blocks.1.attn.hook_{p}" for p in "qkvz"]

    def gradients(run) -> list[torch.Tensor]:
        pixels, kept = pictures()["pixel_values"].requires_grad_(), {}

        def keep(t, hook):
            t.retain_grad()
            kept[hook.name] = t
            return t

        with llava.bridge.hooks(fwd_hooks=[(n, keep) for n in names]):
            run(pixels).square().mean().backward()
        assert len(kept) == len(names)
        return [pixels.grad, *(kept[n].grad for n in sorted(kept))]  # type: ignore[list-item]

    ours = gradients(lambda p: llava(x, inputs={"pixel_values": p}))
    for a, b in zip(ours, gradients(lambda p: llava.bridge(x, pixel_values=p)), strict=True):
        close(a, b, 1e-4)


@torch.no_grad()
def test_resuming_equals_the_whole_forward(llava):
    x, seen = tokens(), pictures()
    for layer in range(3):
        close(llava.forward_from(layer, llava.resid_pre(layer, x, inputs=seen)).logits, llava(x, inputs=seen))


def test_a_prompt_with_its_picture(llava):
    picture = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    made = images.prompt(llava, "<image> w3 w4", picture)
    assert made.tokens.tolist() == [[1, *[IMAGE] * PATCHES, 6, 7]]
    assert images.positions(llava, made.tokens)[0].tolist() == [False, *[True] * PATCHES, False, False]
    assert made.inputs["pixel_values"].shape == (1, 3, 8, 8)
    assert llava(made.tokens, inputs=made.inputs).shape == (1, 7, IMAGE + 1)
    assert images.prompt(llava, "w3 w4").tokens.tolist() == llava.tokens("w3 w4").tolist()


def test_what_cannot_be_meant_is_said_in_a_line(llava, tmp_path):
    llama = wb.load(tiny_models.save("llama", tmp_path))
    for run, said in [
        (lambda: llava(tokens()), "12 placeholders"),
        (lambda: llava(tokens(), inputs={"pixels": 1}), "takes no pixels"),
        (lambda: llava(tokens(), inputs={"input_ids": 1}), "use tokens"),
        (lambda: llama(tokens(), inputs=pictures()), "takes no pixel_values"),
        (lambda: llava.generate(tokens(), 1, attention_mask=padded("right"), inputs=pictures()), "on the left"),
        (lambda: wb.observe(llava, tokens(2), [probes.received()], inputs=pictures()), "do not match"),
    ]:
        with pytest.raises(BadInput, match=said) as caught:
            run()
        assert "\n" not in str(caught.value)
    with pytest.raises(Unsupported, match="no processor"):
        images.prompt(llama, "w3")


def test_a_model_is_its_vision_tower_too(llava, tmp_path):
    import json

    folder = tiny_models.save("llava", tmp_path)
    assert wb.load(folder).identity() == llava.identity()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vision_feature_layer": -1}))
    assert wb.load(folder).identity()[0] != llava.identity()[0]


def test_loading_runs_no_installer(tmp_path, monkeypatch):
    """TransformerLens runs pip where a model's processor cannot be loaded; here that is nobody's doing."""
    import subprocess

    ran = []
    monkeypatch.setattr(subprocess, "check_call", lambda *a, **_: ran.append(a))
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lambda *_, **__: 1 / 0)
    folder = tiny_models.save("llava", tmp_path / "llava")
    model = wb.load(folder)
    assert not ran and getattr(model.bridge, "processor", None) is None
    with pytest.raises(Unsupported, match="pip install pillow"):
        images.prompt(model, "a picture", [])
