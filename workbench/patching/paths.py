"""Exact path patching in closed form: the effect of every sender along one path, without a forward per sender."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.budget import budget_of, in_parts
from workbench.errors import BadInput
from workbench.footprint import cache_bytes, forward_bytes, head_dim, inner, stream_bytes
from workbench.patching.chain import Chain, Senders
from workbench.patching.columns import At, column_of
from workbench.patching.pair import Pair
from workbench.patching.readout import Readout
from workbench.patching.receivers import Receivers, receivers_of
from workbench.patching.recording import record
from workbench.patching.targets import Logits, Suffix
from workbench.patching.wiring import Wiring, wirings
from workbench.plan import Plan


def path_effects(
    model: Any,
    clean: Int[Tensor, "b n"],
    corrupted: Int[Tensor, "b n"],
    answers: Int[Tensor, "b 2"],
    receivers: Literal["logits"] | Sequence[tuple[Any, ...]] = "logits",
    at: At = -1,
    mlps: Literal["live", "frozen"] = "live",
    senders: Senders = "heads",
    attention_mask: Bool[Tensor, "b n"] | None = None,
    memory: int | str | None = None,
) -> Float[Tensor, "b layers heads"]:
    """Change of the logit difference when only the path sender → receivers carries the corrupted activation.

    The difference is logit(answers[:, 0]) − logit(answers[:, 1]) at the row's last token. The sender's output at column
    `at` (an int or one per row, negative from the row's end) is that of the corrupted run, all other heads keep their
    clean output; mlps="live" lets MLPs between sender and receiver answer, "frozen" does not. What the receivers then get
    at `at` is put into a clean run in which everything behind them answers (path patching of Wang et al. 2022,
    arXiv:2211.00593, appendix B). Receivers do not see each other's change.

    clean, corrupted: ids of one shape and one padding (`attention_mask`). receivers: "logits", or any of ("q" | "k" |
    "v" | "z", layer, head) and ("mlp", layer); k and v count key-value heads. senders: "heads" gives [batch, layers,
    heads], "mlps" [batch, layers], "embeddings" [batch], and "all" [batch] gives the receivers all that the corrupted
    run has there, from all senders together. A sender that no path leads from has effect 0. memory: bytes that the
    prompts and senders at work may take (see `workbench.budget`); the result does not depend on it beyond rounding.

    Exact for LayerNorm and RMSNorm, pre-norm, post-norm and parallel blocks, soft-caps, grouped-query attention and
    windows. q and k are what the scores are made of; where one norm spans all heads (OLMo 2), TransformerLens' hook_q
    lies before it, and a patch there would move the other heads' queries, too. Raises Unsupported for a model whose own
    numbers do not follow from its parts or that has hooks or edits in force; BadInput for what cannot be meant; TooLarge
    where one prompt with one sender needs more than `memory`.
    """
    (effects,) = effects_of_paths(
        model, clean, corrupted, answers, [receivers], at, mlps, senders, attention_mask, memory
    )  # fmt: skip
    return effects


@torch.no_grad()
def effects_of_paths(
    model: Any,
    clean: Int[Tensor, "b n"],
    corrupted: Int[Tensor, "b n"],
    answers: Int[Tensor, "b 2"],
    paths: Sequence[Literal["logits"] | Sequence[tuple[Any, ...]]],
    at: At = -1,
    mlps: Literal["live", "frozen"] = "live",
    senders: Senders = "heads",
    attention_mask: Bool[Tensor, "b n"] | None = None,
    memory: int | str | None = None,
) -> list[Float[Tensor, "b layers heads"]]:
    """What `path_effects` gives for the receivers of each path; both runs are recorded once for all of them.

    paths: each as `receivers` there; all at the same column `at`. Everything else, and what is raised, as there.
    """
    if mlps not in ("live", "frozen") or senders not in get_args(Senders):
        raise BadInput(f"mlps={mlps}, senders={senders}: give live or frozen, and {', '.join(get_args(Senders))}")
    pair = Pair.of(model, clean, corrupted, answers, attention_mask)
    columns, blocks = column_of(at, pair.text), wirings(pair.model)
    chosen = [None if one == "logits" else receivers_of(one, pair.model) for one in paths]
    sizes = _Sizes.of(pair, columns, _lowest(chosen))

    def some(rows: slice) -> list[Float[Tensor, "b *senders"]]:
        part = pair.part(rows)
        left = max(budget_of(part.model, memory) - sizes.row * len(part.clean), sizes.sender * len(part.clean))
        return _effects(part, columns[rows], chosen, blocks, senders, mlps == "live", sizes.sender, left)

    each = sizes.row + sizes.sender
    parts = in_parts(pair.model, "path patching", len(pair.clean), each, some, memory)
    return [torch.cat(path) for path in zip(*parts, strict=True)]


def _lowest(chosen: Sequence[Receivers | None]) -> int | None:
    return min((one.lowest for one in chosen if one), default=None)


def _effects(
    pair: Pair, columns: Int[Tensor, " b"], chosen: Sequence[Receivers | None], blocks: list[Wiring], senders: Senders,
    live: bool, each: int, memory: int,
) -> list[Float[Tensor, "b *senders"]]:  # fmt: skip
    """The effects on some prompts. each, memory: bytes of a sender in one prompt, and of all that are at work."""
    model, readout = pair.model, Readout(pair.model, pair.answers)
    run = record(model, pair.clean, pair.attention_mask, columns, pair.ends, _lowest(chosen))
    other = record(model, pair.corrupted, pair.attention_mask, columns, pair.ends)
    readout.check(run.final, run.logits)
    chain = Chain(blocks, run, other, senders, live)

    def target(receivers: Receivers | None) -> Logits | Suffix:
        return Suffix(model, blocks, run, receivers, readout) if receivers else Logits(run, readout)

    with model.seam.on(Plan()):  # once, not for every layer's call; a target is gone before the next is made
        return [_sweep(model, chain, target(one), each * len(columns), memory) for one in chosen]


def _sweep(
    model: Any, chain: Chain, target: Logits | Suffix, each: int, memory: int
) -> Float[Tensor, "b *senders"]:  # fmt: skip
    """Every sender's effect, some at a time."""
    total = math.prod(chain.shape)
    out = torch.zeros(total, *target.base.shape, dtype=target.base.dtype, device=target.base.device)

    def some(part: slice) -> None:
        senders = range(part.start, part.stop)
        chain.run(senders, target.places, target.read)
        out[part] = target.take(len(senders))

    if reach := min(chain.upto(target.places), total):
        in_parts(model, "senders of path patching", reach, each, some, memory)
    return out.movedim(0, -1).reshape(*target.base.shape, *chain.shape)


@dataclass(frozen=True)
class _Sizes:
    """Bytes of one prompt: row, of its two runs; sender, of one sender at work in it."""

    row: int
    sender: int

    @classmethod
    def of(cls, pair: Pair, columns: Int[Tensor, " b"], lowest: int | None) -> _Sizes:
        model, n, item = pair.model, pair.clean.shape[1], pair.model.dtype.itemsize
        d, heads, layers = int(model.bridge.cfg.d_model), model.n_heads * head_dim(model), model.n_layers
        row = forward_bytes(model, n, len(pair.ends.unique())) + 2 * layers * (2 * d + heads) * item
        width, suffix = 0, 1
        if lowest is not None:
            row += cache_bytes(model, n, layers - lowest) + 2 * stream_bytes(model, n)
            suffix = int((pair.ends - columns).max()) + 1
            keys = int(columns.max()) + suffix
            width = suffix * (model.n_heads * (3 * keys + 6 * head_dim(model)) + 8 * d)
        return cls(row, (14 * d + 6 * inner(model) * suffix + width) * item)
