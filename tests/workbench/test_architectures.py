"""Further architectures through the seam, against Hugging Face with attention written out, and what is refused."""

from __future__ import annotations

import pytest
import tiny_architectures
import tiny_models
import torch
import transformers
from packaging.version import Version
from tiny_architectures import GATED, PARTS, REFUSED, TEXT, VISION
from tiny_models import IMAGE
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from workbench_kernels import AttentionSpec

import workbench as wb
from workbench import images, probes
from workbench.errors import BadInput, Unsupported
from workbench.masks import compact_mask

N, SPAN = 30, (6, 7, 8, 9)
SEEN: dict[int, torch.Tensor] = {}
EDITS: dict[int, tuple[int, int]] = {}
LOOSE = {"qwen3_next": 1e-4, "qwen3_5_text": 1e-4, "gemma4_text": 3e-5, "olmo": 3e-5}
"""Of max|logit|: linear attention and norms of small vectors make float32's last bits larger.

In float64, but for Hugging Face's softmax in float32, they are below 1e-6.
"""


def written_out(module, query, key, value, attention_mask, scaling=None, softcap=None, s_aux=None, **_):
    """Attention as the papers have it; of a layer in EDITS one head is put out, and one looks at SPAN three times more."""
    n = query.shape[1] // key.shape[1]
    s = query @ key.repeat_interleave(n, 1).mT * (scaling or query.shape[-1] ** -0.5)
    s = s if softcap is None else torch.tanh(s / softcap) * softcap
    p = (s + attention_mask).softmax(-1)
    SEEN[module.layer_idx] = p
    if module.layer_idx in EDITS:
        out, more = EDITS[module.layer_idx]
        p = p.clone()
        p[:, out] = 0
        p[:, more, :, list(SPAN)] *= 3
        p[:, more] /= p[:, more].sum(-1, keepdim=True)
    return (p @ value.repeat_interleave(n, 1)).transpose(1, 2).contiguous(), None


AttentionInterface.register("written_out", written_out)
AttentionMaskInterface.register("written_out", eager_mask)


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 5e-6) -> None:
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def tokens() -> torch.Tensor:
    return torch.randint(3, 95, (3, N), generator=torch.Generator().manual_seed(1))


def padded() -> torch.Tensor:
    return torch.arange(N)[None] >= torch.tensor([0, 4, 9])[:, None]


@pytest.mark.parametrize("kind", TEXT)
@torch.no_grad()
def test_an_architecture_through_the_seam(kind: str, tmp_path):
    folder = tiny_models.save(kind, tmp_path, of=tiny_architectures.config(kind))
    model, plain = wb.load(folder), tiny_models.hugging_face(folder)
    x, keep, last = tokens(), padded(), max(model.seam.layers)
    if kind == "gptj" and Version(transformers.__version__) < Version("5.24"):
        with pytest.raises(Unsupported, match="adds its mask to scores itself"):
            model(x)
        return
    loose = LOOSE.get(kind, 5e-6)
    # logits, left padding, decoding
    whole = plain(x).logits
    close(model(x), whole, loose)
    # the bridge, too, counts positions from the mask, and where it does not it is Hugging Face that counts columns
    close(model(x, keep)[keep], model.bridge(x, attention_mask=keep.long())[keep], loose)
    step = model.forward(x[:, :20], use_cache=True)
    parts, cache = [step.logits], step.cache
    for i in range(20, N):
        parts.append(model.forward(x[:, i : i + 1], cache=cache).logits)
    close(torch.cat(parts, 1), whole, max(loose, 2e-5))
    SEEN.clear()
    plain.set_attn_implementation("written_out")
    close(plain(x).logits, whole, loose)
    assert SEEN or kind == "falcon", "Hugging Face's falcon has its own attention; its bridge asks the seam"
    if SEEN:
        edits_hold(model, plain, x, whole, max(loose, 2e-5))
    hooks_edit(model, x, last, loose)
    replaced(model, x, last, kind in GATED)


def edits_hold(model, plain, x, whole, loose: float) -> None:
    """Edits and statistics of the last attention layer, against attention written out in Hugging Face."""
    last = max(model.seam.layers)
    at = wb.observe(model, x, [probes.mass([(6, 10)])])["mass"][last, ..., 0]
    close(at, SEEN[last][..., list(SPAN)].sum(-1), 2e-5)
    EDITS.update({last: (2, 5)})
    try:
        theirs = plain(x).logits
    finally:
        EDITS.clear()
    with wb.intervene(model, wb.mask([(last, 2)]) + wb.amplify([(last, 5)], SPAN, 3)):
        close(model(x), theirs, loose)
    assert (theirs - whole).abs().max() > 1e-3 * whole.abs().max()


def hooks_edit(model, x, layer: int, loose: float) -> None:
    """q, k, v, z of this layer fire and edit as on the plain bridge."""

    def edit(t, hook):
        t = t.clone()
        t[:, 3:9] = t[:, 3:9].flip(-1)
        return t

    for part in "qkvz":
        name = f"blocks.{layer}.attn.hook_{part}"
        theirs = model.bridge.run_with_hooks(x, fwd_hooks=[(name, edit)])
        with model.bridge.hooks(fwd_hooks=[(name, edit)]):
            ours = model(x)
        close(ours, theirs, loose)
        assert (ours - model(x)).abs().max() > 1e-3 * ours.abs().max(), f"{name} did nothing"


def replaced(model, x, layer: int, gated: bool) -> None:
    """A head's output put in the place of its own, or refused where a gate would stand behind it."""
    values = []
    name = f"blocks.{layer}.attn.hook_z"

    def put(z, hook):
        wide = z.unflatten(-1, (model.n_heads, -1)).clone() if z.dim() == 3 else z.clone()
        values.append(torch.full_like(wide[0, 0, 0], 0.7))
        wide[:, :, 3] = values[0]
        return wide.reshape(z.shape)

    theirs = model.bridge.run_with_hooks(x, fwd_hooks=[(name, put)])
    edit = wb.patch([(layer, 3)], values[0])
    if gated:
        with pytest.raises(Unsupported, match="gates its heads' outputs"):
            model.forward(x, edits=edit)
    else:
        close(model.forward(x, edits=edit).logits, theirs, 2e-5)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_seam_cannot_serve_is_said(kind: str, tmp_path):
    model = wb.load(tiny_models.save(kind, tmp_path, of=tiny_architectures.config(kind)))
    with pytest.raises(Unsupported, match=REFUSED[kind][1]) as said:
        model(tokens())
    assert "\n" not in str(said.value)
    assert model.bridge(tokens()).isfinite().all(), "the plain bridge is as it was"


def pictures(kind: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x, rng = tokens(), torch.Generator().manual_seed(2)
    x[:, SPAN[0] : SPAN[0] + PARTS.get(kind, len(SPAN))] = IMAGE
    pixels = torch.randn(3, 3, 8, 8, generator=rng)
    if kind.startswith("llava"):
        return x, {
            "pixel_values": torch.randn(3, 3, 3, 8, 8, generator=rng),
            "image_sizes": torch.tensor([[8, 16]] * 3),
        }
    if kind == "gemma3":
        return x, {"pixel_values": pixels, "token_type_ids": (x == IMAGE).long()}
    if kind in ("idefics3", "smolvlm"):
        return x, {"pixel_values": pixels[:, None], "pixel_attention_mask": torch.ones(3, 1, 8, 8).long()}
    if kind == "mistral3":
        return x, {"pixel_values": pixels, "image_sizes": torch.tensor([[8, 8]] * 3)}
    x[:, SPAN[0] - 1] = IMAGE + 2
    grid = torch.tensor([[1, 2, 2]] * 3)
    patches = torch.randn(12, 48, generator=rng)
    return x, {"pixel_values": patches, "image_grid_thw": grid, "mm_token_type_ids": (x == IMAGE).int()}


@pytest.mark.parametrize("kind", VISION)
@torch.no_grad()
def test_pictures_through_the_seam(kind: str, tmp_path):
    """TransformerLens discards pattern edits of Qwen's, which leave attention to Hugging Face: here they hold."""
    folder = tiny_models.save(kind, tmp_path, of=tiny_architectures.seeing(kind))
    model, plain = wb.load(folder), tiny_models.hugging_face(folder)
    x, seen = pictures(kind)
    theirs = plain(x, **seen).logits
    close(model(x, inputs=seen), theirs)
    other = plain(x, **{**seen, "pixel_values": seen["pixel_values"].flip(0)}).logits
    assert (other - theirs).abs().max() > 1e-3 * theirs.abs().max(), "the pictures must matter"
    new = plain.generate(x, max_new_tokens=6, do_sample=False, eos_token_id=[], **seen)[:, N:]
    assert model.generate(x, 6, stop=[], inputs=seen).tolist() == new.tolist()
    getattr(
        plain.model, "language_model", getattr(plain.model, "text_model", None)
    ).config._attn_implementation = "written_out"
    EDITS.update({1: (2, 5)})
    try:
        edited = plain(x, **seen).logits
    finally:
        EDITS.clear()
    with wb.intervene(model, wb.mask([(1, 2)]) + wb.amplify([(1, 5)], SPAN, 3)):
        close(model(x, inputs=seen), edited, 2e-5)
    assert (edited - theirs).abs().max() > 1e-3 * theirs.abs().max()
    at = wb.observe(model, x, [probes.mass([(6, 10)])], inputs=seen)["mass"][1, ..., 0]
    close(at, SEEN[1][..., list(SPAN)].sum(-1), 2e-5)
    x[0, SPAN[0]] = 5
    with pytest.raises(BadInput, match="do not match") as said:
        model(x, inputs=seen)
    assert "\n" not in str(said.value)
    x[0, SPAN[0]] = IMAGE
    if images.placed(model):
        with pytest.raises(Unsupported, match="follow its pictures"):
            model.resid_pre(1, x, inputs=seen)
    else:
        close(model.forward_from(1, model.resid_pre(1, x, inputs=seen)).logits, theirs)


@torch.no_grad()
def test_a_pattern_that_is_only_shown_cannot_be_edited(tmp_path):
    model = wb.load(tiny_models.save("opt", tmp_path, of=tiny_architectures.config("opt")))
    x, seen, name = tokens(), [], "blocks.1.attn.hook_pattern"
    with model.bridge.hooks(fwd_hooks=[(name, lambda p, hook: seen.append(p))]):
        close(model(x), model.bridge(x))
    at = wb.observe(model, x, [probes.mass([(6, 10)])])["mass"][1, ..., 0]
    close(at, seen[0][..., list(SPAN)].sum(-1), 2e-5)
    with (
        pytest.raises(Unsupported, match="cannot honour"),
        model.bridge.hooks(fwd_hooks=[(name, lambda p, hook: p * 0.5)]),
    ):
        model(x)
    with pytest.raises(Unsupported, match="no edits"), model.bridge.hooks(fwd_hooks=[(name, lambda p, hook: None)]):
        model.forward(x, edits=wb.mask([(1, 0)]))
    close(model(x), model.bridge(x))


def test_a_window_that_looks_ahead_is_no_window():
    """A picture that is seen whole, behind a sliding window: its later keys and those before the window are kept."""
    blocks = torch.zeros(1, 40, dtype=torch.long)
    blocks[:, 10:30] = 1

    def mask(b, h, q, k):
        return ((k <= q) & (q - k < 4)) | ((blocks[b, q] == 1) & (blocks[b, k] == 1))

    compact = compact_mask(1, 40, 40, mask_function=mask, local_size=4)
    spec: AttentionSpec = compact.spec(1.0)
    assert spec.keys(12, 16, 40) == slice(0, 40)
    plain = compact_mask(1, 40, 40, mask_function=lambda b, h, q, k: (k <= q) & (q - k < 4), local_size=4)
    assert plain.spec(1.0).keys(12, 16, 40) == slice(9, 16)
