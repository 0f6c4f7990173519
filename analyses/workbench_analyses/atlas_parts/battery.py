"""The battery of prompts: needles, IOI and pictures, each where the model can do with it; one score a prompt and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench import images
from workbench.errors import BadInput, Unsupported
from workbench.models import Model
from workbench.observation import observe
from workbench.probes import mass, without_sinks
from workbench.probes.retrieval import score_block
from workbench.progress import counting
from workbench.tasks.circuit_prompts import CircuitPrompts, make_prompts
from workbench.tasks.needle import Assembler, Block, answer_ends, blocks
from workbench.tasks.scenes import scenes
from workbench.tasks.wording import asking
from workbench_analyses.atlas import Atlas
from workbench_analyses.atlas_parts.patterns import LEAST_LEFT, REST, RULE
from workbench_analyses.atlas_parts.texts import Shown

NEEDLE_TOKENS = 256
DEPTHS = (0.0, 25.0, 50.0, 75.0, 100.0)
RETRIEVAL = {"retrieval": "distinct", "needle_mass": "mass", "query_focus": "qrhead"}
"""Our names of what `score_block` gives."""
LOOKS = {
    "ioi_mover": ("END", "IO"), "ioi_s_inhibition": ("END", "S2"), "ioi_duplicate": ("S2", "S1"),
    "ioi_induction": ("S2", "S1+1"), "ioi_previous": ("S1+1", "S1"),
}  # fmt: skip
"""Which label looks at which, and what a head that does so may be in the circuit of Wang et al. 2022 (2211.00593)."""

Samples = Float[np.ndarray, "samples layers heads"]


@dataclass
class Found:
    """samples: a score a prompt, by measure. shown: prompts for pictures. left_out: what was not asked, and why."""

    samples: dict[str, Samples] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def needle_blocks(config: Atlas, model: Model, assembler: Assembler) -> list[Block]:
    """Needles at five depths, a new haystack for every five. Raises BadInput where the vocabulary holds none."""
    length = min(NEEDLE_TOKENS, model.context - 8)  # the answer needs room
    rounds = -(-config.needles // len(DEPTHS))
    try:
        units = blocks(assembler, [length], DEPTHS, rounds, config.seed)
        return [unit for _, unit in zip(counting("needles drawn", rounds), units, strict=True)]
    except BadInput as error:
        said = "the bundled needles do not fit this vocabulary or context: scan-heads takes needles= of your own"
        raise BadInput(said) from error


def score_needles(model: Model, block: Block, stops: set[int]) -> dict[str, Samples]:
    """Retrieval scores of a block's needles; NaN where the needle was not told."""
    scored = score_block(model, block, stops)
    out = {}
    for name, array in RETRIEVAL.items():
        each = [
            getattr(s, array) if name == "query_focus" or s.accepted else np.full_like(s.mass, np.nan) for s in scored
        ]
        out[name] = np.stack(each)
    return out


def needle_stops(model: Model) -> set[int]:
    """Ids that end an answer."""
    return answer_ends(model.tokenizer, model.stop_tokens, None)


def ioi_prompts(config: Atlas, model: Model) -> CircuitPrompts:
    """IOI prompts. Raises BadInput where the tokenizer lacks their names."""
    return make_prompts("ioi", model.tokenizer, config.ioi, config.seed)


@torch.no_grad()
def score_ioi(model: Model, prompts: CircuitPrompts, batch: int) -> dict[str, Samples]:
    """Attention from the last token of one label to the span of another, a number a prompt."""
    parts = []
    for start in range(0, len(prompts), batch):
        rows = prompts.rows(range(start, min(start + batch, len(prompts)))).to(model.device)
        looking = [[s[of][1] - 1 for of, _ in LOOKS.values()] for s in rows.spans]
        at = [[s[to] for _, to in LOOKS.values()] for s in rows.spans]
        seen = observe(model, rows.clean, [mass(at, rows=looking)], rows.mask)["mass"]
        parts.append(torch.diagonal(seen, dim1=-2, dim2=-1).transpose(0, 1).double().cpu().numpy())
    each = np.concatenate(parts)  # [prompts, layers, heads, looks]
    return {name: each[..., i] for i, name in enumerate(LOOKS)}


def scene_prompts(config: Atlas, model: Model) -> list[images.Prompt]:
    """A question about each picture. Raises Unsupported or BadInput where the model reads no pictures."""
    if not hasattr(model.bridge.original_model.config, "vision_config"):
        raise Unsupported(f"{model.name} is a model of text")
    out = []
    for one in scenes("score", config.scenes, config.seed):
        out.append(images.prompt(model, asking(model, one.objects[0]), one.image))
    return out


@torch.no_grad()
def score_scenes(model: Model, prompts: Sequence[images.Prompt]) -> dict[str, Samples]:
    """Visual mass: mean attention of the tokens behind the picture to the picture, a number a scene.

    Without sinks: of what is left of each row; NaN for heads of which no row is left.
    """
    raw, rest = [], []
    for tokens, inputs in prompts:
        at = images.positions(model, tokens)[0].nonzero().flatten().tolist()
        rows, spans = list(range(at[-1] + 1, tokens.shape[1])), [*_runs(at), (0, tokens.shape[1])]
        probe = mass(spans, rows=rows)
        seen = observe(model, tokens, [probe, without_sinks(probe, RULE, REST)], inputs=inputs)
        raw.append(seen["mass"][:, 0, ..., :-1].double().sum(-1).mean(-1).cpu().numpy())
        rest.append(_of_the_rest(seen[REST][:, 0].double()))
    return {"visual": np.stack(raw), f"visual/{REST}": np.stack(rest)}


def _of_the_rest(mass: Tensor) -> Float[np.ndarray, "layers heads"]:
    """Mean over rows of the share of the first spans in the last one, which is all that is left of a row."""
    left = mass[..., -1]
    live = left >= LEAST_LEFT
    share = torch.where(live, mass[..., :-1].sum(-1) / left.clamp_min(LEAST_LEFT), 0.0)
    return torch.where(live.any(-1), share.sum(-1) / live.sum(-1).clamp_min(1), torch.nan).cpu().numpy()


def picture_span(model: Model, asked: images.Prompt) -> Mapping[str, tuple[int, int]]:
    """From the first to the last placeholder."""
    at = images.positions(model, asked.tokens)[0].nonzero().flatten().tolist()
    return {"picture": (at[0], at[-1] + 1)}


def why_not(error: BadInput | Unsupported) -> str:
    """What the reader is told of a part that was left out."""
    return " ".join(str(error).split("; not: ")[0].split())


def _runs(columns: Sequence[int]) -> list[tuple[int, int]]:
    """Columns as spans of neighbours."""
    out: list[tuple[int, int]] = []
    for c in columns:
        if out and out[-1][1] == c:
            out[-1] = (out[-1][0], c + 1)
        else:
            out.append((c, c + 1))
    return out
