"""Three forwards over prompts and their captions, and all that the scores of heads need of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench import probes
from workbench.errors import Unsupported
from workbench.observation import observe
from workbench.probes.phi import default_tau, phi
from workbench.probes.probe import Probe
from workbench.visual.grids import Grid, grids
from workbench.visual.localising import spatial_entropies
from workbench.visual.picture_sinks import sink_dimensions
from workbench.visual.scoring import PerToken
from workbench.visual.told import Rows, Told

WHOLE = ("picture", "overview")
"""Views that show all of a picture."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What heads looked at and said while captions were written, caption by caption; NaN behind a caption's end.

    At the row that predicts each token: mass, attention on the picture; on_sinks, its part on visual sinks; l2, relative
    and cosine, how far head outputs z with the picture are from z without it: ‖z − z'‖, ‖z − z'‖ / ‖z‖, 1 − cos(z, z');
    blank_…, from z with a blank picture; quiet, ‖z'‖ without the picture. At the prompt's last token: looks, attention on
    the picture; entropy, its spatial entropy in nats over the whole picture seen at once (NaN where `grids` does not know
    where parts lie). sinks: share of the picture's
    parts that are visual sinks in each layer.
    """

    mass: PerToken
    on_sinks: PerToken
    l2: PerToken
    relative: PerToken
    cosine: PerToken
    blank_l2: PerToken
    blank_relative: PerToken
    blank_cosine: PerToken
    quiet: PerToken
    looks: Float[np.ndarray, "b layers heads"]
    entropy: Float[np.ndarray, "b layers heads"]
    sinks: Float[np.ndarray, "b layers"]

    def __len__(self) -> int:
        """Captions."""
        return len(self.looks)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def joined(cls, parts: Sequence[Mapping[str, np.ndarray]]) -> Self:
        """Readings (their arrays) one behind the other; shorter ones are filled up with NaN."""
        longest = max(p["mass"].shape[1] for p in parts)
        return cls(**{f.name: np.concatenate([_filled(p[f.name], longest) for p in parts]) for f in fields(cls)})


@torch.no_grad()
def read(model: Any, told: Told, tau: float | None = None, dims: Sequence[int] | None = None) -> Reading:
    """Read captions with the picture, without it and with a blank one: three forwards for all scores.

    tau: Φ from which a part of the picture is a visual sink (default: 20·√(d/4096)). dims: the model's sink dimensions,
    found if not given. Raises TooLarge, with the size, for more attention than fits, and BadInput for several captions where
    what the model reads of pictures is not one a row (Qwen-VL): give fewer at a time.
    """
    tau = default_tau(int(model.bridge.cfg.d_model)) if tau is None else tau
    first = told.prompt.tokens[:1, :1]
    views = _views(model, told)
    dims = sink_dimensions(model, first, tau) if dims is None else list(dims)
    rows, columns = told.seen(), told.columns
    spans = [[(c, c + 1) for c in row] for row in columns]
    asked = [outputs(rows), probes.mass(spans, rows=rows.predicting.tolist()), *([phi(dims)] if dims else [])]
    found = observe(model, rows.tokens, asked, rows.mask, inputs=rows.inputs)
    onto = found["mass"]  # [layers, b, heads, t, parts]
    sinks = torch.zeros(onto[:, :, 0, 0].shape, dtype=torch.bool, device=onto.device)
    if dims:
        sinks = found["phi"].gather(2, torch.tensor(columns, device=onto.device).expand(len(onto), -1, -1)) >= tau
    z, steps = found["outputs"], told.steps
    without, blank = (
        observe(model, r.tokens, [outputs(r)], r.mask, inputs=r.inputs)["outputs"]
        for r in (told.unseen(), told.blanked())
    )
    per_token = {
        "mass": onto.sum(-1), "on_sinks": (onto * sinks[:, :, None, None]).sum(-1), "quiet": _by_head(without.norm(dim=-1)),
        **_divergences(z, without), **{f"blank_{k}": v for k, v in _divergences(z, blank).items()},
    }  # fmt: skip
    look = onto[:, :, :, 0].movedim(0, 1).double().cpu().numpy()  # [b, layers, heads, parts]
    return Reading(
        **{k: _per_token(v, steps) for k, v in per_token.items()}, looks=look.sum(-1), entropy=_entropies(views, told, look),
        sinks=sinks.double().mean(-1).T.cpu().numpy(),
    )  # fmt: skip


def _views(model: Any, told: Told) -> list[list[Grid]]:
    """Of each caption's picture; none where it is not known where parts lie."""
    out: list[list[Grid]] = []
    for i in range(len(told.said)):
        one = told.some([i]).prompt
        try:
            out.append(grids(model, one))
        except Unsupported:
            out.append([])
    return out


def _entropies(
    views: Sequence[Sequence[Grid]], told: Told, look: Float[np.ndarray, "b l h parts"]
) -> Float[np.ndarray, "b l h"]:
    """Of the view that shows all of the picture; tiles beside it are left out."""
    out = np.full(look.shape[:3], np.nan)
    for i, columns in enumerate(told.columns):
        for view in (v for v in views[i] if v.name in WHOLE):
            place = np.searchsorted(columns, view.columns)
            out[i] = spatial_entropies(look[i][..., place])
    return out


def outputs(rows: Rows, name: str = "outputs") -> Probe:
    """z of every head (hook_z) at the rows that predict captions, [layers, b, t, heads, d]."""
    at = rows.predicting

    def reduce(model: Any, z: Tensor) -> Tensor:
        return z[torch.arange(len(at), device=z.device)[:, None], at.to(z.device)].float()

    return Probe(name, hook=("attn.hook_z", reduce))


def _divergences(z: Float[Tensor, "l b t h d"], other: Float[Tensor, "l b t h d"]) -> dict[str, Tensor]:
    apart, own, its = (z - other).norm(dim=-1), z.norm(dim=-1), other.norm(dim=-1)
    cosine = 1 - (z * other).sum(-1) / (own * its).clamp_min(1e-30)
    found = {"l2": apart, "relative": apart / own.clamp_min(1e-30), "cosine": cosine}
    return {k: _by_head(v) for k, v in found.items()}


def _by_head(x: Float[Tensor, "l b t h"]) -> Float[Tensor, "l b h t"]:
    return x.transpose(2, 3)


def _per_token(x: Float[Tensor, "l b h t"], steps: Tensor) -> PerToken:
    by_token = x.permute(1, 3, 0, 2).double().cpu().numpy()
    return np.where(steps.cpu().numpy()[:, :, None, None], by_token, np.nan)


def _filled(x: np.ndarray, longest: int) -> np.ndarray:
    if x.ndim < 4:
        return x
    return np.pad(x, [(0, 0), (0, longest - x.shape[1]), (0, 0), (0, 0)], constant_values=np.nan)
