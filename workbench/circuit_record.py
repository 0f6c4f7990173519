"""A circuit out of its JSON record, each field checked: nothing behind it asks again whether a head is one of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from workbench.circuit_parts import Edge, Place
from workbench.circuits import Circuit, CircuitEdge, CircuitHead, Stage
from workbench.heads import ModelIdentity
from workbench.score_checks import check_size


def circuit_from(held: Mapping[str, Any], path: Path) -> Circuit:
    """The circuit of a record of that file. Raises ValueError (BadInput too), KeyError or TypeError for what is none."""
    shape = _whole(held["n_layers"]), _whole(held["n_heads"])
    check_size(path, *shape)
    stages = tuple(_typed(Stage, s, receivers=_places(s["receivers"], shape)) for s in held["stages"])
    names = {stage.name for stage in stages}
    heads = tuple(_typed(CircuitHead, h, head=_place(h["head"], shape)) for h in held["heads"])
    if strange := {h.stage for h in heads} - names:
        raise ValueError(f"a head stands in stage {min(strange)[:40]!r}, which is none of the circuit's")
    if type(tau := _facts(held["settings"]).get("tau", 0.0)) not in (int, float):
        raise TypeError(f"tau {str(tau)[:40]!r} is no number")
    return _typed(
        Circuit, held, model=_typed(ModelIdentity, held["model"]), stages=stages, heads=heads,
        edges=tuple(_typed(CircuitEdge, e, edge=_edge(e["edge"], shape)) for e in held["edges"]),
        needed=_places(held["needed"], shape),
        ranking=tuple((_place(p, shape), _number(s)) for p, s in held["ranking"]),
    )  # fmt: skip


def _typed(kind: Any, given: Mapping[str, Any], **ready: Any) -> Any:
    """A dataclass from values of its declared types; ready: those that are checked already."""
    if not isinstance(given, Mapping):
        raise TypeError(f"no {kind.__name__}: {str(given)[:40]!r}")
    declared = {field.name: _KINDS.get(str(field.type)) for field in fields(kind)}
    return kind(**{k: ready[k] if k in ready else (declared.get(k) or _unknown)(v) for k, v in given.items()})


def _place(given: Any, shape: Place) -> Place:
    layer, head = map(_whole, given)
    if layer >= shape[0] or head >= shape[1]:
        raise ValueError(f"there is no head {layer}, {head} among {shape[0]} layers × {shape[1]} heads")
    return layer, head


def _places(given: Iterable[Any], shape: Place) -> tuple[Place, ...]:
    return tuple(_place(x, shape) for x in given)


def _edge(given: Any, shape: Place) -> Edge:
    sender, receiver, channel, label = given
    to = None if receiver is None else _place(receiver, shape)
    return Edge(_place(sender, shape), to, _text(channel), _text(label))


def _whole(given: Any) -> int:
    if type(given) is not int or given < 0:
        raise TypeError(f"{str(given)[:40]!r} is no whole number from 0")
    return given


def _number(given: Any) -> float:
    """null is what NaN is written as."""
    if given is not None and type(given) not in (int, float):
        raise TypeError(f"{str(given)[:40]!r} is no number")
    return float("nan") if given is None else float(given)


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{str(given)[:40]!r} is no text")
    return given


def _facts(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise TypeError(f"{str(given)[:40]!r} is no object")
    return given


def _unknown(given: Any) -> Any:
    """A field that the class does not have: its constructor says so."""
    return given


_KINDS: dict[str, Callable[[Any], Any]] = {
    "int": _whole,
    "float": _number,
    "str": _text,
    "Mapping[str, Any]": _facts,
    "Mapping[str, float]": lambda given: {name: _number(x) for name, x in _facts(given).items()},
}
