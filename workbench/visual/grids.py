"""Where in a picture the part lies that a placeholder stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from workbench import images
from workbench.errors import BadInput, Unsupported

WHOLE = (0.0, 0.0, 1.0, 1.0)
_TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


@dataclass(frozen=True, eq=False)
class Grid:
    """One view of a picture: columns of the tokens that hold its placeholders, as they lie in the picture.

    name: picture, or overview and tiles where a picture is seen twice. box: left, top, right, bottom of what is covered,
    in shares of the picture's width and height.
    """

    name: str
    columns: Int[np.ndarray, "rows columns"]
    box: tuple[float, float, float, float] = WHOLE


def grids(model: Any, asked: images.Prompt, size: tuple[int, int] | None = None) -> list[Grid]:
    """The views of the one picture in a prompt of one row.

    size: height and width of the picture in pixels, to know what a processor cuts off its sides; None: nothing is cut.

    Raises Unsupported for a kind of model, or a way of cutting pictures, whose places are not known here (so where
    placeholders do not fill their grid); BadInput for more prompts than one, and one without a picture.
    """
    kind = model.bridge.original_model.config.model_type
    if kind not in KINDS:
        raise Unsupported(f"{model.name}: where {kind} looks in a picture is not known here; known: {', '.join(KINDS)}")
    if len(asked.tokens) != 1:
        raise BadInput(f"{len(asked.tokens)} prompts: give one, with one picture")
    at = images.positions(model, asked.tokens)[0].nonzero().flatten().cpu().numpy()
    if not len(at):
        raise BadInput(f"{model.name}: the prompt has no placeholder of a picture")
    return KINDS[kind](model, asked, at, size)


def _llava(model: Any, asked: images.Prompt, at: np.ndarray, size: tuple[int, int] | None) -> list[Grid]:
    [pixels] = _one(asked, "pixel_values")
    side = _vision(model).patch_size
    rows, columns = pixels.shape[-2] // side, pixels.shape[-1] // side
    at = at[1:] if len(at) == rows * columns + 1 else at  # the class token's, where it is kept
    return [Grid("picture", _filled(at, rows, columns), _kept(model, size))]


def _gemma3(model: Any, asked: images.Prompt, at: np.ndarray, size: tuple[int, int] | None) -> list[Grid]:
    _one(asked, "pixel_values", "pan and scan: do_pan_and_scan=False")
    side = math.isqrt(model.bridge.original_model.config.mm_tokens_per_image)
    return [Grid("picture", _filled(at, side, side))]


def _idefics3(model: Any, asked: images.Prompt, at: np.ndarray, size: tuple[int, int] | None) -> list[Grid]:
    """Tiles row by row, each named by the token before it, then the whole picture; or that alone."""
    _one(asked, "pixel_values")
    side = _vision(model).image_size // _vision(model).patch_size // model.bridge.original_model.config.scale_factor
    count = asked.inputs["pixel_values"].shape[1]
    parts = _filled(at, count, side * side).reshape(count, side, side)
    if count == 1:
        return [Grid("picture", parts[0])]
    before = asked.tokens[0].cpu()[parts[:, 0, 0] - 1]
    named = [_TILE.fullmatch(str(t)) for t in model.tokenizer.convert_ids_to_tokens(before)]
    places = [(int(m[1]), int(m[2])) for m in named[:-1] if m]
    rows, columns = max(places, default=(0, 0))
    if (
        not places
        or named[-1]
        or len(places) < count - 1
        or places != [(r + 1, c + 1) for r in range(rows) for c in range(columns)]
    ):
        raise Unsupported(f"{model.name}: {count} tiles, and the tokens do not say where: do_image_splitting=False")
    tiles = parts[:-1].reshape(rows, columns, side, side).transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
    return [Grid("overview", parts[-1]), Grid("tiles", tiles)]


def _llava_next(model: Any, asked: images.Prompt, at: np.ndarray, size: tuple[int, int] | None) -> list[Grid]:
    """The whole picture, then its tiles joined, without the borders of padding, a newline after each row."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

    config, [seen] = model.bridge.original_model.config, _one(asked, "image_sizes")
    side = config.vision_config.image_size // config.vision_config.patch_size
    shape = get_anyres_image_grid_shape(seen, config.image_grid_pinpoints, config.vision_config.image_size)
    rows, columns = unpad_image(torch.zeros(1, shape[0] * side, shape[1] * side), seen).shape[1:]
    most = getattr(config, "vision_aspect_ratio", None)
    ratio = math.sqrt(rows * columns / (int(most.removeprefix("anyres_max_")) * side**2)) if most else 1.0
    if ratio > 1.1:  # LLaVA-OneVision makes large pictures smaller
        rows, columns = int(rows // ratio), int(columns // ratio)
    overview, tiles = at[: side * side], at[side * side :]
    return [
        Grid("overview", _filled(overview, side, side)), Grid("tiles", _filled(tiles, rows, columns + 1)[:, :-1])
    ]  # fmt: skip


def _qwen(model: Any, asked: images.Prompt, at: np.ndarray, size: tuple[int, int] | None) -> list[Grid]:
    [seen] = _one(asked, "image_grid_thw")
    _, rows, columns = (int(x) for x in seen)
    merged = _vision(model).spatial_merge_size
    return [Grid("picture", _filled(at, rows // merged, columns // merged))]


def _mistral3(model: Any, asked: images.Prompt, at: np.ndarray, size: tuple[int, int] | None) -> list[Grid]:
    [seen] = _one(asked, "image_sizes")
    side = _vision(model).patch_size * model.bridge.original_model.config.spatial_merge_size
    return [Grid("picture", _filled(at, int(seen[0]) // side, int(seen[1]) // side))]


KINDS: dict[str, Callable[..., list[Grid]]] = {
    "llava": _llava, "llava_next": _llava_next, "llava_onevision": _llava_next, "gemma3": _gemma3,
    "idefics3": _idefics3, "smolvlm": _idefics3, "mistral3": _mistral3, "qwen2_5_vl": _qwen, "qwen3_vl": _qwen,
}  # fmt: skip
"""By Hugging Face's model type."""


def _vision(model: Any) -> Any:
    return model.bridge.original_model.config.vision_config


def _one(asked: images.Prompt, name: str, cut: str = "") -> Any:
    """An input that has a row a picture, of one picture."""
    if name not in asked.inputs:
        raise Unsupported(f"inputs: no {name}, which says how the picture is cut")
    found = asked.inputs[name]
    if len(found) != 1:
        raise Unsupported(f"{len(found)} pictures in one prompt: give one{f' ({cut})' if cut else ''}")
    return found


def _filled(at: np.ndarray, rows: int, columns: int) -> np.ndarray:
    if len(at) != rows * columns:
        raise Unsupported(f"{len(at)} placeholders for a grid of {rows} × {columns}")
    return at.reshape(rows, columns)


def _kept(model: Any, size: tuple[int, int] | None) -> tuple[float, float, float, float]:
    """What is left of a picture whose shorter side is scaled and whose middle is cut out (CLIP)."""
    processor = getattr(getattr(model.bridge, "processor", None), "image_processor", None)
    if size is None or not getattr(processor, "do_center_crop", False):
        return WHOLE
    scale = processor.size["shortest_edge"] / min(size)  # pyright: ignore[reportOptionalMemberAccess]
    crop = processor.crop_size  # pyright: ignore[reportOptionalMemberAccess]
    y, x = (crop[name] / (scale * length) for name, length in zip(("height", "width"), size, strict=True))
    return (1 - x) / 2, (1 - y) / 2, (1 + x) / 2, (1 + y) / 2
