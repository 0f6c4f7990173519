"""Finds the commands, and the kinds of runs that compare themselves: modules that hold a `COMMAND` or a `COMPARE`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

from workbench.command import Command, RunKind

# By name: the core knows the analyses only by looking for them.
PACKAGES = ("workbench.commands", "workbench_analyses")


def commands(packages: tuple[str, ...] = PACKAGES) -> dict[str, Command]:
    """Commands by name, sorted. Raises RuntimeError if two modules claim one name."""
    found: dict[str, Command] = {}
    homes: dict[str, str] = {}
    for home, command in _held("COMMAND", Command, packages):
        if command.name in found:
            raise RuntimeError(f"{home} and {homes[command.name]} both define {command.name!r}")
        found[command.name], homes[command.name] = command, home
    return dict(sorted(found.items()))


def run_kinds(packages: tuple[str, ...] = PACKAGES) -> tuple[RunKind, ...]:
    """Kinds of runs that compare themselves."""
    return tuple(kind for _, kind in _held("COMPARE", RunKind, packages))


def _held(name: str, kind: type, packages: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every module of some packages that holds a value of that name and kind."""
    for package in packages:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            value = getattr(importlib.import_module(module.name), name, None)
            if isinstance(value, kind):
                yield module.name, value
