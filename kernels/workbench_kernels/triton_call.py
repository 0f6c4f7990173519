"""One request as the kernels want it: tiles, flags as bytes, per-head parameters in full, what passes hand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from workbench_kernels.blocks import valid_queries
from workbench_kernels.triton_tiles import INTERPRETED, Tiles, tiles
from workbench_kernels.types import CLASSES, AttentionSpec, HeadEdits


class Call:
    """The tensors of one request, and what the passes hand to each other."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits | None) -> None:
        self.q, self.k, self.v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        self.spec, self.edits = spec, edits
        self.b, self.h, self.n, self.d = q.shape
        self.m, self.device, self.shift = k.shape[2], q.device, spec.q_offset - spec.kv_offset
        # two accumulators of float32 operands spill; such requests take the passes for several classes
        self.live = CLASSES if edits is None or (q.element_size() == 4 and not INTERPRETED) else _live(edits)
        self.tiles, self.two_tiles = (tiles(self.d, q.element_size(), two) for two in (False, True))
        self.z = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        self.lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
        self.entropy: Tensor | None = None
        self.factor: Tensor | None = None
        self.pad = None if spec.padding is None else self._bytes(spec.padding)
        self.queries = self._valid_queries()
        self._tensors: dict[str, Tensor | None] = {}

    def _bytes(self, flags: Tensor) -> Tensor:
        return flags.to(self.device).expand(self.b, -1).contiguous().view(torch.int8)

    def _valid_queries(self) -> Tensor | None:
        """Which queries are of the text: those whose own key is not padding."""
        valid = valid_queries(self.spec, self.n, self.m, self.device)
        return None if valid is None else self._bytes(valid)

    def edit(self, name: str) -> Tensor | None:
        """A parameter of the edits as the kernels read it, made when it is first asked for; None where absent."""
        if self.edits is None:
            return None
        if name not in self._tensors:
            self._tensors[name] = self._edit(name, self.edits)
        return self._tensors[name]

    def _edit(self, name: str, e: HeadEdits) -> Tensor | None:
        if name == "EDITED":
            return self._edited(e)
        if name == "ON":
            return None if e.queries is None else self._bytes(e.queries)
        if name == "FIRST":
            if e.window is None:
                return None
            first = self.spec.first_valid(self.b, self.device) - self.spec.kv_offset
            return first.to(torch.int32).clamp_min(-e.sink).contiguous()  # plus the sinks: never below 0
        if name == "CLS":
            if e.key_class is None or all(x is None for x in (e.class_gain, e.bias, e.boost)):
                return None
            classes = _kept(e.key_class, "CLS", lambda x: x.to(self.device, torch.int8).contiguous())
            return classes.expand(self.b, self.h, -1)
        if name in ("GAIN", "WINDOW", "FREED"):
            x = {"GAIN": e.gain, "WINDOW": e.window, "FREED": e.freed}[name]
            dtype = torch.float32 if name == "GAIN" else torch.int32
            return None if x is None else _kept(x, self._key(dtype), lambda x: self._heads(x, dtype))
        x, neutral = {
            "CGAIN": (e.class_gain, 1.0), "LEAST": (e.least_mass, 0.0), "BIAS": (e.bias, 0.0), "BOOST": (e.boost, 0.0),
        }[name]  # fmt: skip
        if x is None:
            return None
        return _kept(x, self._key(neutral), lambda x: self._heads(_columns(x, self.live, neutral), torch.float32))

    def _key(self, *more: Any) -> tuple[Any, ...]:
        return self.b, self.h, self.live, str(self.device), *more

    def _heads(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(self.device, dtype).expand(self.b, self.h, *x.shape[2:]).contiguous()

    def _edited(self, e: HeadEdits) -> Tensor:
        """1 for the heads whose kernel differs from the plain one."""
        flags = torch.zeros(self.b, self.h, dtype=torch.bool, device=self.device)
        for name, neutral in (("GAIN", 1), ("WINDOW", 0), ("CGAIN", 1), ("BIAS", 0), ("BOOST", 0)):
            x = self.edit(name)
            if x is not None:
                changed = x != neutral
                flags |= changed.any(-1) if changed.dim() == 3 else changed
        return flags.to(torch.int32)

    @property
    def classes(self) -> bool:
        """Whether class gains make factors of a row."""
        return self.edits is not None and self.edits.class_gain is not None

    @property
    def two(self) -> bool:
        """Whether one live class fits the forward kernel."""
        return self.classes and self.live == 1

    def grid(self, blocks: int) -> tuple[int, int]:
        """Programs of a launch."""
        return blocks, self.b * self.h

    def arguments(self, edit: bool, tiles: Tiles | None = None) -> dict[str, Any]:
        """What every kernel takes."""
        names = ("ON", "WINDOW", "FIRST", "CLS", "BIAS", "BOOST")
        given = {x: self.edit(x) if edit else None for x in names}
        cls, spec, t = given["CLS"], self.spec, tiles or self.tiles
        return given | {
            "Q": self.q, "K": self.k, "LSE": self.lse, "PAD": self.pad,
            "sqb": self.q.stride(0), "sqh": self.q.stride(1), "sqn": self.q.stride(2),
            "skb": self.k.stride(0), "skh": self.k.stride(1), "skn": self.k.stride(2),
            "scb": 0 if cls is None else cls.stride(0), "sch": 0 if cls is None else cls.stride(1),
            "n": self.n, "m": self.m, "H": self.h, "shift": self.shift, "reach": spec.sliding or 0,
            "sink": self.edits.sink if self.edits is not None else 0, "scale": spec.scale, "cap": spec.softcap or 1.0,
            "LIVE": self.live, "GROUP": self.h // self.k.shape[1], "D": self.d, "BD": power(self.d),
            "BM": t.rows, "BN": t.keys, "HAS_CAP": spec.softcap is not None, "HAS_REACH": spec.sliding is not None,
            "UP": INTERPRETED and self.q.dtype == torch.bfloat16,
            "PREC": "ieee" if INTERPRETED else "tf32x3",  # of no meaning where both operands are half precision
        }  # fmt: skip

    def flags(self, edit: bool) -> dict[str, Any]:
        """Which heads take a launch, and their factors, for a second pass."""
        factor = self.factor if edit else None
        return {
            "EDITED": self.edit("EDITED"),
            "EDIT": int(edit),
            "FACTOR": factor,
            "NF": 2 if self.two else 1 + CLASSES,
        }

    def launches(self) -> tuple[bool, ...]:
        """Whether a launch is for the heads without edits and/or for those with."""
        return (False,) if self.edits is None else (False, True)

    @property
    def sinks(self) -> Tensor | None:
        """The learned sink logits."""
        return None if self.spec.sink_logits is None else self.spec.sink_logits.to(self.device).contiguous()


_memo: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _kept(x: Tensor, key: Any, make: Callable[[Tensor], Any]) -> Any:
    """What is made of a tensor, kept as long as the tensor lives unchanged: edits are the same in every step."""
    kept = _memo.get(x)
    if kept is None or kept[0] != x._version:
        kept = _memo[x] = (x._version, {})
    held = kept[1]
    if key not in held:
        made = make(x)
        if isinstance(made, Tensor) and made.data_ptr() == x.data_ptr():
            return made  # the tensor itself or a view of it, which must not keep it alive
        held[key] = made
    return held[key]


def _live(edits: HeadEdits) -> int:
    """Columns of the class tables in the kernels: 1 where class 1 alone occurs, else all. Looked up once a tensor."""
    tables = (edits.class_gain, edits.least_mass, edits.bias, edits.boost)
    wide = max((x.shape[-1] for x in tables if x is not None), default=1)
    if wide > 1 or edits.key_class is None or edits.class_gain is None:
        return 1 if wide <= 1 else CLASSES
    largest = _kept(edits.key_class, "largest", lambda x: int(x.max()) if x.numel() else 0)
    return 1 if largest <= 1 else CLASSES


def _columns(table: Tensor, live: int, neutral: float) -> Tensor:
    """A class table with exactly so many columns, in float32."""
    return torch.nn.functional.pad(table.float(), (0, live - table.shape[-1]), value=neutral)


def power(width: int) -> int:
    """The power of two that a tile needs, at least the 16 of a dot."""
    return max(16, triton.next_power_of_2(width))


def cdiv(a: int, b: int) -> int:
    """Blocks of b in a."""
    return -(-a // b)
