"""The logit difference of two answers, read from the residual stream behind the last block."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import BadInput, Unsupported


class Readout:
    """Final norm, exactly and per vector, and two columns of the unembedding per row; soft-caps and scales included.

    answers: ids of the answer and its foil.
    """

    def __init__(self, model: Any, answers: Int[Tensor, "b 2"]) -> None:
        bridge, config = model.bridge, model.config
        unembed = bridge.unembed.original_component
        bias = getattr(unembed, "bias", None)
        self.norm, self.answers = bridge.ln_final, answers
        self.weight: Float[Tensor, "b 2 d"] = unembed.weight[answers]
        self.bias: Float[Tensor, "b 2"] | float = 0.0 if bias is None else bias[answers]
        self.scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", 1.0))
        self.softcap = getattr(config, "final_logit_softcapping", None)

    def __call__(self, resid: Float[Tensor, "*s b d"]) -> Float[Tensor, "*s b"]:
        """Logit of the first answer minus that of the second, in at least float32."""
        logits = torch.einsum("...bd,bad->...ba", self.norm(resid), self.weight) + self.bias
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits[..., 0] - logits[..., 1]

    def check(self, resid: Float[Tensor, "b d"], logits: Float[Tensor, "b v"]) -> Float[Tensor, " b"]:
        """The difference read from `resid`. Raises Unsupported where the model's own logits say otherwise."""
        own = logits.gather(-1, self.answers)
        own = own.to(torch.promote_types(own.dtype, torch.float32))
        said, eps = self(resid), torch.finfo(logits.dtype).eps
        off = float((said - (own[:, 0] - own[:, 1])).abs().max())
        if not off <= max(256 * eps, 1e-5) * (1 + float(own.abs().max())):
            raise Unsupported(f"the model makes its logits in a way that patching does not know (off by {off:.1e})")
        return said


def check_answers(answers: Tensor, vocabulary: int) -> Int[Tensor, "b 2"]:
    """Raises BadInput unless every row has two token ids."""
    if answers.dim() != 2 or answers.shape[1] != 2 or answers.is_floating_point():
        raise BadInput(f"answers of shape {list(answers.shape)}: give [batch, 2] ids, the answer and its foil")
    if bool(((answers < 0) | (answers >= vocabulary)).any()):
        raise BadInput(f"answers: ids outside the vocabulary of {vocabulary}")
    return answers.long()
