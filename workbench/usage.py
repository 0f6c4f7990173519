"""Help in the terminal: the list of commands, and the options of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from workbench.casting import takes_list, type_name
from workbench.command import Command
from workbench.options import REQUIRED, RESERVED, Option, options_of, written

if TYPE_CHECKING:
    from rich.console import RenderableType


def overview(commands: Mapping[str, Command]) -> Iterator[RenderableType]:
    """What `workbench --help` shows."""
    from rich.text import Text

    yield Text("Find the attention heads that matter, prove it, show them, serve them.\n")
    yield Text("usage: workbench COMMAND key=value …\n")
    yield _table([(name, command.help) for name, command in commands.items()])
    yield Text("\nworkbench COMMAND --help lists the options of a command; --version prints the version.")


def manual(command: Command) -> Iterator[RenderableType]:
    """What `workbench COMMAND --help` shows: options with type, default and meaning, and examples."""
    from rich.text import Text

    options = options_of(command.config)
    yield Text(f"workbench {command.name}: {command.help}\n")
    yield Text(f"usage: {_usage(command, options)}\n")
    rows = [(o.key, type_name(o.kind), _shown(o), o.doc) for o in options.values()]
    rows += [
        (key, "path" if key == "config" else "true|false", "none" if key == "config" else "false", doc)
        for key, doc in RESERVED.items()
        if key not in options
    ]
    yield _table([("option", "type", "default", "meaning"), *rows], head=True)
    yield Text("\nwhole numbers may end in k or M (128k = 131,072); lists are comma-separated (256,512,1k)")
    yield Text("\nexamples:\n" + "\n".join(f"  {line}" for line in _examples(command, options)))


def _usage(command: Command, options: Mapping[str, Option]) -> str:
    leading = [name.upper() + "…" * takes_list(options[name].kind) for name in command.positional]
    needed = [f"{o.key}=…" for o in options.values() if o.default is REQUIRED and o.key not in command.positional]
    return " ".join(["workbench", command.name, *leading, *needed, "[key=value …]"])


def _examples(command: Command, options: Mapping[str, Option]) -> list[str]:
    given = [name.upper() for name in command.positional]
    given += [f"{o.key}={_sample(o)}" for o in options.values() if o.default is REQUIRED and o.key.upper() not in given]
    line = " ".join(["workbench", command.name, *given])
    tuned = next((o for o in options.values() if _sample(o) and o.default not in (REQUIRED, None)), None)
    lines = [line, *([f"{line} {tuned.key}={_sample(tuned)}"] if tuned else []), f"{line} json=true | jq"]
    return lines


def _sample(option: Option) -> str:
    if option.key == "model":
        return "llama"
    if option.default not in (REQUIRED, None, "", ()):
        return written(option.default)
    return option.key.rpartition(".")[2].upper() if option.default is REQUIRED else ""


def _shown(option: Option) -> str:
    if option.default is REQUIRED:
        return "required"
    return written(option.default) or '""'


def _table(rows: list[tuple[str, ...]], head: bool = False) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=head, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in range(len(rows[0])):
        title = rows[0][column] if head else ""
        table.add_column(title, no_wrap=column == 0, overflow="fold", ratio=1 if column == len(rows[0]) - 1 else None)
    for row in rows[head:]:
        table.add_row(*(Text(cell) for cell in row))
    return table
