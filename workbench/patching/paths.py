"""Exact path patching in closed form: the effect of every sender along one path, without a forward per sender."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.errors import BadInput, TooLarge
from workbench.patching.chain import Chain, Senders
from workbench.patching.columns import At, column_of
from workbench.patching.pair import Pair
from workbench.patching.readout import Readout
from workbench.patching.receivers import receivers_of
from workbench.patching.recording import record
from workbench.patching.targets import Logits, Suffix
from workbench.patching.wiring import wirings
from workbench.plan import Plan

MEMORY = 2 << 30
"""Bytes that the senders of one chunk may take."""


@torch.no_grad()
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
    memory: int = MEMORY,
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
    run has there, from all senders together. A sender that no path leads from has effect 0. memory: bytes for the
    senders at work at a time; the result does not depend on it beyond rounding.

    Exact for LayerNorm and RMSNorm, pre-norm, post-norm and parallel blocks, soft-caps, grouped-query attention and
    windows. q and k are what the scores are made of; where one norm spans all heads (OLMo 2), TransformerLens' hook_q
    lies before it, and a patch there would move the other heads' queries, too. Raises Unsupported for a model whose own
    numbers do not follow from its parts or that has hooks or edits in force; BadInput for what cannot be meant; TooLarge
    where one sender needs more than `memory`.
    """
    if mlps not in ("live", "frozen") or senders not in get_args(Senders):
        raise BadInput(f"mlps={mlps}, senders={senders}: give live or frozen, and {', '.join(get_args(Senders))}")
    pair = Pair.of(model, clean, corrupted, answers, attention_mask)
    model, ends, columns = pair.model, pair.ends, column_of(at, pair.text)
    chosen = None if receivers == "logits" else receivers_of(receivers, model)
    readout, blocks = Readout(model, pair.answers), wirings(model)
    run = record(model, pair.clean, pair.attention_mask, columns, ends, chosen.lowest if chosen else None)
    other = record(model, pair.corrupted, pair.attention_mask, columns, ends)
    readout.check(run.final, run.logits)
    chain = Chain(blocks, run, other, senders, mlps == "live")
    with model.seam.on(Plan()):  # once, not for every layer's call
        target = Suffix(model, blocks, run, chosen, readout) if chosen else Logits(run, readout)
        return _sweep(chain, target, _chunk(model, chain, target, memory))


def _sweep(chain: Chain, target: Logits | Suffix, chunk: int) -> Float[Tensor, "b *senders"]:
    """Every sender's effect, some at a time."""
    total = math.prod(chain.shape)
    out = torch.zeros(total, *target.base.shape, dtype=target.base.dtype, device=target.base.device)
    reach = min(chain.upto(target.places), total)
    for start in range(0, reach, chunk):
        senders = range(start, min(start + chunk, reach))
        chain.run(senders, target.places, target.read)
        out[senders.start : senders.stop] = target.take(len(senders))
    return out.movedim(0, -1).reshape(*target.base.shape, *chain.shape)


def _chunk(model: Any, chain: Chain, target: Logits | Suffix, memory: int) -> int:
    """How many senders fit into so many bytes. Raises TooLarge where one does not."""
    batch, d = chain.clean.resid[0].shape
    suffix = target.columns.index.shape[1] if isinstance(target, Suffix) else 1
    inner = int(getattr(model.bridge.cfg, "d_mlp", None) or 4 * d)
    each = batch * (8 * d + 3 * inner * suffix + target.width) * chain.clean.resid[0].element_size()
    if each > memory:
        raise TooLarge(f"one sender takes {each / 2**20:.1f} MiB for {batch} rows: raise memory= or give fewer rows")
    return memory // each
