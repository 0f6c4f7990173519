"""What turns a scene and a text into the inputs of the bundled `llava`: an ordinary Hugging Face processor folder."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, normalizers

from workbench.reference_models.recipes.scene_documents import VOCABULARY
from workbench.reference_models.tokenizer import build_cased_tokenizer, write_tokenizer
from workbench.tasks.scene_objects import GRID, SIDE
from workbench.tasks.scenes import STEPS

PLACEHOLDER = "<image>"


def build_scene_tokenizer() -> Tokenizer:
    """One token a word or a mark, lower-cased; `<image>` stands for a part of the picture."""
    tokenizer = build_cased_tokenizer(VOCABULARY)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.add_special_tokens([AddedToken(PLACEHOLDER, special=True)])
    return tokenizer


def write_processor(folder: Path, context: int) -> None:
    """Write the tokenizer and the processor, which AutoProcessor loads offline and without torchvision."""
    write_tokenizer(folder, context, build_scene_tokenizer())
    side = GRID * SIDE
    pictures = {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side}, "image_mean": [0.5] * 3, "image_std": [STEPS / 255] * 3,
        "do_resize": True, "do_center_crop": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "do_convert_rgb": True, "resample": 3,
    }  # fmt: skip
    config = {
        "processor_class": "LlavaProcessor", "patch_size": SIDE, "vision_feature_select_strategy": "default",
        "image_token": PLACEHOLDER, "num_additional_image_tokens": 1, "image_processor": pictures,
    }  # fmt: skip
    (folder / "processor_config.json").write_text(json.dumps(config, indent=1) + "\n")
