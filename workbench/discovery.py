"""Finds the commands: every module of the command packages that holds a `COMMAND`."""

from __future__ import annotations

import importlib
import pkgutil

from workbench.command import Command

# By name: the core knows the analyses only by looking for them.
PACKAGES = ("workbench.commands", "workbench_analyses")


def commands(packages: tuple[str, ...] = PACKAGES) -> dict[str, Command]:
    """Commands by name, sorted. Raises RuntimeError if two modules claim one name."""
    found: dict[str, Command] = {}
    homes: dict[str, str] = {}
    for package in packages:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            command = getattr(importlib.import_module(module.name), "COMMAND", None)
            if not isinstance(command, Command):
                continue
            if command.name in found:
                raise RuntimeError(f"{module.name} and {homes[command.name]} both define {command.name!r}")
            found[command.name], homes[command.name] = command, module.name
    return dict(sorted(found.items()))
