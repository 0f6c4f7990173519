"""A model: a TransformerBridge whose attention runs through the seam, from a name, a folder, a hub id or a live bridge."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench import images
from workbench.backend_names import checked
from workbench.beginnings import first_ids, once
from workbench.booting import boot, dtype_of
from workbench.budget import budget_of
from workbench.errors import ModelError, Unsupported
from workbench.fingerprints import fingerprint
from workbench.generating import greedy
from workbench.masks import CompactMask
from workbench.offloading import device_of
from workbench.own_tokenizers import own_tokenizer, tokenizer_of
from workbench.placing import Placement
from workbench.plan import Plan
from workbench.reference_models import catalogue
from workbench.seam import Seam
from workbench.sources import locate
from workbench.unasked import kept_here


@dataclass
class Forward:
    """What one forward gave."""

    logits: Float[Tensor, "b kept vocabulary"]
    statistics: dict[int, Statistics]
    cache: Any = None


class Model:
    """A TransformerBridge whose attention runs through the seam.

    tokenizer: the model's own, as Hugging Face loads it; TransformerLens' is `bridge.tokenizer`, which puts BOS first.
    source: what `load` takes to load it again. name: short, fit for a file name.
    """

    def __init__(
        self, bridge: Any, name: str, label: str = "", backend: str = "auto", tokenizer: Any = None, source: str = ""
    ) -> None:
        self.bridge, self.name, self.label, self.source = bridge, name, label or name, source or name
        self.tokenizer = tokenizer_of(bridge) if tokenizer is None else tokenizer
        self.seam = Seam(bridge)
        self.edits: list[Any] = []  # active interventions, outermost first
        self.observers: list[Any] = []  # active collectors of `observing`
        self.backend = backend
        self.memory: int | str | None = None  # what work may take beside the weights: see `workbench.budget`
        self.ceilings: dict[str, int] = {}  # bytes below which work has to stay, where memory has run out in it
        config = bridge.original_model.config
        self.config = getattr(config, "text_config", config)
        self.n_layers, self.n_heads = int(bridge.cfg.n_layers), int(bridge.cfg.n_heads)
        self.n_kv_heads = int(getattr(bridge.cfg, "n_key_value_heads", None) or self.n_heads)
        self.context = int(getattr(self.config, "max_position_embeddings", 0) or bridge.cfg.n_ctx)
        named = inspect.signature(bridge.original_model.forward).parameters
        self._cache_name = "cache" if "cache" in named else "past_key_values"  # renamed by transformers 5.24

    def __repr__(self) -> str:
        """Its name, size and what it is."""
        size = f"{self.n_layers} layers × {self.n_heads} heads, {self.n_kv_heads} kv heads, context {self.context:,}"
        return f"Model({self.name}: {size}; {self.label})"

    @property
    def backend(self) -> str:
        """Which code computes attention: auto, chunked, triton, reference or hooks (see `workbench.backends`).

        Can be set. One that cannot do a request raises Unsupported, with the reason, when the request is made.
        """
        return self._backend

    @backend.setter
    def backend(self, name: str) -> None:
        self._backend = checked(name)

    @property
    def device(self) -> torch.device:
        """Where it takes its inputs: that of its first weights, or the one to which they are brought."""
        return device_of(self.bridge.original_model)

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights."""
        return next(self.bridge.original_model.parameters()).dtype

    def __call__(
        self,
        tokens: Int[Tensor, "b n"],
        attention_mask: Bool[Tensor, "b n"] | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Float[Tensor, "b n vocabulary"]:
        """Logits, with the active interventions in force. inputs: see `forward`."""
        return self.forward(tokens, attention_mask, inputs=inputs).logits

    def forward(
        self,
        tokens: Tensor,
        attention_mask: Tensor | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        edits: Any = None,
        reductions: Callable[[int, CompactMask], Reductions | None] | None = None,
        decode_from: Sequence[int] | None = None,
        cache: Any = None,
        use_cache: bool = False,
        keep: slice | None = None,
        from_layer: int | None = None,
    ) -> Forward:
        """One forward through the seam.

        inputs: what else the model reads, by Hugging Face's names: {"pixel_values": …} (see `workbench.images`).
        edits: one intervention, or a list with one per batch row, on top of the active ones. reductions: what to
        collect per layer. keep: positions whose logits are wanted. from_layer: `tokens` is the residual stream
        entering that layer, [b, n, d]. cache: a Hugging Face cache of the tokens before these.
        """
        from workbench.interventions.compiling import compile_edits
        from workbench.interventions.memory import recall, remember

        past = cache.get_seq_length() if cache is not None else 0
        phase = decode_from or [past + tokens.shape[1] - 1]
        extra = images.checked(self, inputs, tokens, past)
        active, memory = [*self.edits, *([edits] if edits is not None else [])], recall(cache, past)
        compiled = compile_edits(self, active, tokens.shape[0], phase, memory, past)
        lone = keep is not None and self.seam.nobody_looks_behind_the_last_attention()
        plan = Plan(
            compiled, reductions, memory=budget_of(self), kept=keep if lone else None, observers=tuple(self.observers),
            backend=self.backend,
        )  # fmt: skip
        extra["use_cache"] = use_cache or cache is not None
        if cache is not None:
            extra[self._cache_name] = cache
        if keep is not None:
            extra["logits_to_keep"] = torch.arange(keep.start, keep.stop, device=tokens.device)
        if attention_mask is not None:
            extra["attention_mask"] = attention_mask.to(tokens.device).long()
        skip = self._resuming(from_layer, extra)
        for observer in plan.observers:
            observer.begin()
        with self.seam.on(plan), skip, images.matching():
            out = self.bridge(tokens, return_type="logits_and_cache", **extra)
        memory.end = past + tokens.shape[1]
        remember(out[1], memory)
        for observer in plan.observers:
            observer.end()
        return Forward(out[0], {i: s[-1] for i, s in plan.found.items()}, out[1])

    def forward_from(
        self, layer: int, resid_pre: Float[Tensor, "b n d"], attention_mask: Tensor | None = None, **options: Any
    ) -> Forward:
        """Resume above `layer` from the residual stream that enters it; the layers below are not computed."""
        return self.forward(resid_pre, attention_mask, from_layer=layer, **options)

    def resid_pre(
        self,
        layer: int,
        tokens: Tensor,
        attention_mask: Tensor | None = None,
        inputs: Mapping[str, Any] | None = None,
        decode_from: Sequence[int] | None = None,
        from_layer: int | None = None,
    ) -> Float[Tensor, "b n d"]:
        """The residual stream that enters a layer, [batch, seq, d_model], with the active interventions in force.

        from_layer: `tokens` is the stream that enters that layer, which is below, and the layers below it are not run.
        """
        from workbench.interventions.compiling import compile_edits
        from workbench.interventions.memory import Memory

        phase = decode_from or [tokens.shape[1] - 1]
        compiled = compile_edits(self, self.edits, tokens.shape[0], phase, Memory())
        extra = images.checked(self, inputs, tokens, 0)
        if extra and images.placed(self):
            raise Unsupported(
                f"{self.name}: its masks or positions follow its pictures, so no forward resumes from here"
            )
        if attention_mask is not None:
            extra["attention_mask"] = attention_mask.long()
        if from_layer == layer:
            return tokens
        skip = self._resuming(from_layer, extra)
        with self.seam.on(Plan(compiled, memory=budget_of(self), backend=self.backend)), skip:
            return self.bridge(tokens, stop_at_layer=layer, **extra)

    def _resuming(self, from_layer: int | None, extra: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
        """Where the layers below are not run; `extra` gets what the bridge has to be told for it."""
        if from_layer is None:
            return contextlib.nullcontext()
        extra["start_at_layer"] = from_layer
        if "attention_mask" in extra:
            extra["position_ids"] = (extra["attention_mask"].cumsum(-1) - 1).clamp_min(0)
        return self.seam.skipping(from_layer)

    def generate(
        self,
        prompt: str | Tensor,
        max_new_tokens: int = 50,
        stop: Sequence[int] | None = None,
        edits: Any = None,
        attention_mask: Bool[Tensor, "b n"] | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Int[Tensor, "b new"]:
        """Greedy continuation: the new token ids, [batch, ≤ max_new_tokens]; rows are padded after their stop token.

        attention_mask: prompts of several lengths, padded on the left. inputs: see `forward`.
        """
        tokens = self.tokens(prompt) if isinstance(prompt, str) else prompt
        ends = set(self.stop_tokens if stop is None else stop)
        return greedy(self, tokens, max_new_tokens, ends, edits, attention_mask, inputs)

    @property
    def stop_tokens(self) -> list[int]:
        """Ids that end a text."""
        ends = getattr(self.bridge.original_model.generation_config, "eos_token_id", None)
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)

    @property
    def bos(self) -> int | None:
        """The id that begins every text (GLM's: the first of two); None where the model's own tokenizer puts none."""
        return next(iter(first_ids(self.tokenizer)), None)

    def tokens(self, text: str) -> Int[Tensor, "1 n"]:
        """Ids of a text as the model's own tokenizer begins it: BOS exactly once, or nowhere. No EOS: prompts go on."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor([once(first_ids(self.tokenizer), ids)], device=self.device)

    def identity(self) -> tuple[str, str]:
        """Hash of the config, and a fingerprint of the weights (see `workbench.fingerprints`)."""
        return fingerprint(self.bridge.original_model)


@contextlib.contextmanager
def intervene(model: Model, edits: Any) -> Iterator[None]:
    """Inside, every call and `generate` of the model runs with these edits: one intervention, or a list, one a row."""
    model.edits.append(edits)
    try:
        yield
    finally:
        model.edits.pop()


def _to_load(named: str) -> str:
    """What `load` takes for a name that TransformerLens has loaded: it knows no bundled models."""
    if named not in catalogue.BUNDLED or named in catalogue.PLANTED:
        return named
    return f"./{named}" if os.path.isdir(named) else f"openai-community/{named}"


def load(
    source: str | Path | Any,
    dtype: str | torch.dtype = "float32",
    device: str | Placement | None = None,
    trust_remote_code: bool = False,
    backend: str | None = None,
) -> Model:
    """A model by bundled name, local folder, hub id, or a live TransformerBridge.

    A bundled name comes first: "gpt2" is the reference model, "openai-community/gpt2" the hub's, "./gpt2" or a Path a
    folder.
    device: one device, or how weights are spread over several places ("gpus:2", "auto:cpu=8GB"; see `workbench.placing`).
    backend: what computes attention, "auto" if not given (see `Model.backend`). Raises ModelError, in one line with the
    remedy, for what cannot be loaded.
    """
    if isinstance(source, Model):
        source.backend = backend or source.backend
        return source
    backend = checked(backend or "auto")
    if not isinstance(source, str | Path):
        if not hasattr(source, "blocks") or not hasattr(source, "hook_dict"):
            raise ModelError(f"{type(source).__name__} is no model: give a name, a folder or a TransformerBridge")
        named = getattr(source.cfg, "model_name", "bridge")
        return Model(source, named, backend=backend, source=_to_load(named))
    dtype = dtype_of(dtype)
    typed = source if isinstance(source, str) else os.path.join(os.curdir, source)  # no bundled name
    found = locate(typed, trust_remote_code)
    with kept_here(typed):
        bridge = boot(found.place, dtype, device, trust_remote_code)
        own = own_tokenizer(bridge, found.place, trust_remote_code)
    return Model(bridge, found.name, found.label, backend, own, typed)
