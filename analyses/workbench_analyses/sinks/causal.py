"""What a head loses without its sink: value zeroed, key blocked, or all but a window hidden; against other heads.

The sink is that of each text: the head's strongest. Controls are heads of the same layer that do not park, edited at
the same key. Every edited variant is a row of one batch that resumes at the layer of its head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from workbench import interventions
from workbench.budget import in_parts
from workbench.footprint import forward_bytes
from workbench.heads import Head
from workbench.models import Model
from workbench.progress import Report
from workbench.runs import Remember
from workbench.shards import depending
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.sinks.deciding import MATTERS, Difference, differences, interval
from workbench_analyses.sinks.found import Found, Parked
from workbench_analyses.sinks.renumbered import windowed_outputs

SINKS = (0, 1, 4)
"""First tokens that the windows keep."""
OPS = ("value zeroed", "key blocked", *(f"window, {s} first" for s in SINKS))
RENUMBERED = tuple(f"window, {s} first, renumbered" for s in SINKS if s)
"""With no first token kept, renumbering changes no distance."""
EVERY = (*OPS, *RENUMBERED)
LOGITS = 1 << 27
"""Numbers of logits in one forward, at most."""
Edited = Callable[[int], Any]
"""From a place in a list of heads to the edit of that head."""
DECIDING = OPS[:2]
"""What the verdict goes by."""


@dataclass(frozen=True, eq=False)
class Check:
    """Changes by text: of the head itself, and the mean over its controls (NaN where the layer has none).

    loss: next-token loss in nats, edited minus plain. kl: KL(plain ‖ edited) in nats, mean over rows. NaN in texts
    without a sink of this head, and for windows that cannot be renumbered. controls: heads. beyond: by operation and
    measure, what the head loses more than its controls.
    """

    parked: Parked
    controls: tuple[Head, ...]
    loss: Float[np.ndarray, "texts ops"]
    kl: Float[np.ndarray, "texts ops"]
    control_loss: Float[np.ndarray, "texts ops"]
    control_kl: Float[np.ndarray, "texts ops"]
    says: float
    beyond: Mapping[tuple[str, str], Difference] = field(default_factory=dict)

    def change(self, op: str, what: str) -> tuple[float, float, float]:
        """Mean over texts and its 95 % bootstrap interval; what: loss, kl, control_loss or control_kl."""
        return interval(getattr(self, what)[:, EVERY.index(op)])

    def needs(self, op: str, what: str) -> bool | None:
        """Whether the head loses by an edit more than its controls; None: these texts do not tell."""
        if self.beyond[op, what].matters(what):
            return True
        return False if self.change(op, what)[2] < MATTERS[what] else None

    def needed(self, what: str) -> bool | None:
        """Whether the head needs its sink: zeroing the value or blocking the key matters; None: not told."""
        value, key = (self.needs(op, what) for op in DECIDING)
        return True if value or key else None if value is None or key is None else False

    def verdict(self, what: str) -> str:
        """In words, from (a) and (b)."""
        if np.isnan(self.loss[:, : len(DECIDING)]).all():
            return "not checked: no sink within check_tokens"
        value, key = (self.needs(op, what) for op in DECIDING)
        if key:
            return "needed: its value is read" if value else "needed as a place to park"
        if value:
            return f"its value is read, its key is not {'needed' if key is False else 'shown to be needed'}"
        return "parked, not needed" if self.needed(what) is False else "parked, need not settled"


def check_heads(
    config: ScanSinks, model: Model, found: Found, heads: Sequence[Parked], remember: Remember, report: Report
) -> tuple[Check, ...]:
    """The causal check of some heads over all texts; one text is a unit of work."""
    parks = {p.head for p in found.parked(config.epsilon)} | {p.head for p in heads}
    controls = [_controls(config, model, p.head, parks) for p in heads]
    pairs = [(i, h) for i, p in enumerate(heads) for h in (p.head, *controls[i])]
    n = len(found.texts.tokens)
    loss, kl = np.full((n, len(pairs), len(EVERY)), np.nan), np.full((n, len(pairs), len(EVERY)), np.nan)
    for text in range(n):
        name = depending(f"check-{text}", [pairs, _keys(found, heads, text)])
        arrays, _ = remember(name, lambda t=text: (_one_text(config, model, found, heads, pairs, t), {}))
        loss[text], kl[text] = arrays["loss"], arrays["kl"]
        report(text + 1, n)
    return with_differences([_check(found, p, controls[i], pairs, i, loss, kl) for i, p in enumerate(heads)])


def _keys(found: Found, heads: Sequence[Parked], text: int) -> list[int | None]:
    """Where each head has its strongest sink in a text."""
    sinks = (found.strongest.get((text, p.head)) for p in heads)
    return [None if s is None else s.key for s in sinks]


def with_differences(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The same checks, with what each head loses more than its controls; the heads correct one another."""
    out: list[dict[tuple[str, str], Difference]] = [{} for _ in checks]
    for at, op in enumerate(EVERY):
        for what in MATTERS:
            own, controls = ([getattr(c, f"{kind}{what}")[:, at] for c in checks] for kind in ("", "control_"))
            for beyond, difference in zip(out, differences(own, controls), strict=True):
                beyond[op, what] = difference
    return tuple(replace(c, beyond=beyond) for c, beyond in zip(checks, out, strict=True))


def _check(
    found: Found, parked: Parked, controls: tuple[Head, ...], pairs: list, i: int, loss: np.ndarray, kl: np.ndarray
) -> Check:
    own = pairs.index((i, parked.head))
    others = [j for j, (k, _) in enumerate(pairs) if k == i and j != own]
    means = [x[:, others].mean(1) if others else np.full_like(x[:, 0], np.nan) for x in (loss, kl)]
    says = [s.says for (_, head), s in found.strongest.items() if head == parked.head and not np.isnan(s.says)]
    told = float(np.mean(says)) if says else float("nan")
    return Check(parked, controls, loss[:, own], kl[:, own], means[0], means[1], told)


def _controls(config: ScanSinks, model: Model, head: Head, parks: set[Head]) -> tuple[Head, ...]:
    others = [Head(head.layer, h) for h in range(model.n_heads) if Head(head.layer, h) not in parks]
    rng = np.random.default_rng([config.seed, 4, *head])
    chosen = rng.choice(len(others), min(config.controls, len(others)), replace=False)
    return tuple(sorted(others[int(i)] for i in chosen))


@torch.no_grad()
def _one_text(
    config: ScanSinks, model: Model, found: Found, heads: Sequence[Parked], pairs: list[tuple[int, Head]], text: int
) -> dict[str, np.ndarray]:
    tokens = found.texts.tokens[text : text + 1, : config.check_tokens]
    plain = model(tokens)[0].float().log_softmax(-1)
    base, n = _loss(plain, tokens[0]), tokens.shape[1]
    out = {name: np.full((len(pairs), len(EVERY)), np.nan) for name in ("loss", "kl")}
    inside = {i: found.strongest.get((text, p.head)) for i, p in enumerate(heads)}
    sinks = {i: s for i, s in inside.items() if s is not None and s.key < config.check_tokens}
    entered, resid = None, tokens
    for layer in sorted({h.layer for _, h in pairs}):
        here = [j for j, (i, h) in enumerate(pairs) if h.layer == layer and i in sinks]
        if not here:
            continue
        keys = {j: sinks[pairs[j][0]].key for j in here}
        resid = model.resid_pre(layer, resid, from_layer=entered)
        entered = layer
        for op, edit in _edits(config, model, tokens, layer, [pairs[j][1].head for j in here], [keys[j] for j in here]):
            edits = [edit(i) for i in range(len(here))]
            told = in_parts(
                model, "checked heads", len(here), forward_bytes(model, n, n),
                lambda rows, e=edits, i=layer, r=resid: _changes(model, i, r, e[rows], plain, tokens[0]),
                most=max(1, min(config.batch, LOGITS // plain.numel())),
            )  # fmt: skip
            loss, out["kl"][here, EVERY.index(op)] = np.concatenate(told, 1)
            out["loss"][here, EVERY.index(op)] = loss - base
    return out


def _changes(
    model: Model, layer: int, resid: Float[Tensor, "1 n d"], edits: Sequence[Any], plain: Float[Tensor, "n v"],
    tokens: Int[Tensor, " n"],
) -> Float[np.ndarray, "2 edits"]:  # fmt: skip
    """Loss and KL(plain ‖ edited) under each edit, as rows of one batch."""
    logits = model.forward_from(layer, resid.expand(len(edits), -1, -1), edits=list(edits)).logits
    out = []
    for row in logits:
        said = row.float().log_softmax(-1)
        kl = F.kl_div(said, plain, reduction="none", log_target=True).sum(-1)
        out.append((_loss(said, tokens), float(kl.double().mean())))
    return np.array(out).T


def _edits(
    config: ScanSinks, model: Model, tokens: Tensor, layer: int, heads: list[int], keys: list[int]
) -> Iterable[tuple[str, Edited]]:
    """Each operation and the edit of the i-th head. Windows of one layer must agree in their sinks: one batch each."""
    at = [[(layer, h)] for h in heads]
    yield OPS[0], lambda i: interventions.suppress(at[i], (keys[i],), gain=0.0)
    yield OPS[1], lambda i: interventions.amplify(at[i], (keys[i],), gain=0.0)  # gain 0, then the row is normalised
    for s in SINKS:
        yield f"window, {s} first", lambda i, s=s: interventions.window(at[i], s, config.recent)
        z = windowed_outputs(model, tokens, layer, heads, s, config.recent) if s else None
        if z is not None:
            yield f"window, {s} first, renumbered", lambda i, z=z: interventions.patch(at[i], z[i : i + 1])


def _loss(said: Float[Tensor, "n vocabulary"], tokens: Tensor) -> float:
    return float(F.nll_loss(said[:-1].double(), tokens[1:]))
