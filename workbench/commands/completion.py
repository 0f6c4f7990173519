"""`workbench completion bash|zsh|fish`: a static script that completes commands, keys and known values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import chz

from workbench.casting import choices, takes_path
from workbench.command import Command
from workbench.options import RESERVED, Option, options_of

if TYPE_CHECKING:
    from rich.console import RenderableType

Words = Mapping[str, tuple[str, ...] | None]
"""Keys of a command with their values; None: a file or folder; empty: anything."""

_FILES = re.compile(r"\b(file|folder|path)s?\b", re.IGNORECASE)

_BASH = """\
# workbench completion for bash; load it with: source <(workbench completion bash)
_workbench() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" command="${{COMP_WORDS[1]}}" word key values
    word="${{line##*[[:space:]]}}"
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        mapfile -t COMPREPLY < <(compgen -W {commands} -- "$word")
        return
    fi
    key="${{word%%=*}}"
    if [[ $word != *=* ]]; then
        case "$command" in
{keys}
        esac
        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
        if [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]]; then compopt -o nospace 2>/dev/null; fi
        if [[ ${{#COMPREPLY[@]}} -eq 0 ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
        fi
        return
    fi
    case "$command $key" in
{values}
    *) return ;;
    esac
    if [[ $values == @file ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "${{word#*=}}")
    else
        mapfile -t COMPREPLY < <(compgen -W "$values" -- "${{word#*=}}")
    fi
    # bash cuts words at `=` unless told otherwise: answer with what stands behind it, or with the whole word.
    if [[ $COMP_WORDBREAKS != *=* ]]; then COMPREPLY=("${{COMPREPLY[@]/#/$key=}}"); fi
}}
complete -F _workbench workbench"""

_ZSH = """\
#compdef workbench
# workbench completion for zsh; load it with: source <(workbench completion zsh)
_workbench() {{
    local -a names keys values
    if (( CURRENT == 2 )); then
        names=({commands})
        _describe command names
        return
    fi
    local key="${{PREFIX%%=*}}"
    if [[ $PREFIX != *=* ]]; then
        case "$words[2]" in
{keys}
        esac
        compadd -S '' -- $keys || _files
        return
    fi
    compset -P '*='
    case "$words[2] $key" in
{values}
    *) return ;;
    esac
    if [[ $values[1] == @file ]]; then _files; else compadd -- $values; fi
}}
compdef _workbench workbench"""


@chz.chz
class CompletionConfig:
    """Which shell."""

    shell: Literal["bash", "zsh", "fish"] = chz.field(doc="the shell to complete in")


@dataclass(frozen=True)
class Script:
    """A script, printed as it is."""

    shell: str
    text: str

    def __rich__(self) -> RenderableType:
        """The script, unwrapped: printed alone, rich would forget that a text must not be wrapped."""
        from rich.console import Group
        from rich.text import Text

        return Group(Text(self.text, no_wrap=True, overflow="ignore"))

    def summary(self) -> dict[str, Any]:
        """Shell and text."""
        return {"shell": self.shell, "script": self.text}


def run(config: CompletionConfig) -> Script:
    """Write the script for the commands that are installed now."""
    from workbench.discovery import commands
    from workbench.reference_models.catalogue import BUNDLED

    known = commands()
    words = {name: _words(command, tuple(BUNDLED)) for name, command in known.items()}
    return Script(config.shell, WRITERS[config.shell](known, words))


def _words(command: Command, models: tuple[str, ...]) -> Words:
    options = options_of(command.config)
    reserved = {"config": None, "json": ("true", "false")}
    listed: dict[str, tuple[str, ...] | None] = {key: _values(option, models) for key, option in options.items()}
    return listed | {key: value for key, value in reserved.items() if key in RESERVED and key not in options}


def _values(option: Option, models: tuple[str, ...]) -> tuple[str, ...] | None:
    if option.key == "model":
        return models
    known = choices(option.kind)
    return None if takes_path(option.kind) or (not known and _FILES.search(option.doc)) else known


def _leading(command: Command) -> tuple[str, ...]:
    """Values that may stand without their key."""
    options = options_of(command.config)
    return tuple(word for name in command.positional for word in choices(options[name].kind))


def bash(known: Mapping[str, Command], words: Mapping[str, Words]) -> str:
    """A script for bash 4 or newer."""
    keys, values = [], []
    for name, listed in words.items():
        offered = [*_leading(known[name]), *(f"{key}=" for key in listed)]
        keys.append(f"        {name}) values={shlex.quote(shlex.join(offered))} ;;")
        values += [
            f"    {shlex.quote(f'{name} {key}')}) values={_joined(v)} ;;" for key, v in listed.items() if v != ()
        ]
    return _BASH.format(commands=shlex.quote(" ".join(known)), keys="\n".join(keys), values="\n".join(values))


def zsh(known: Mapping[str, Command], words: Mapping[str, Words]) -> str:
    """A script for zsh."""
    keys, values = [], []
    for name, listed in words.items():
        offered = [*_leading(known[name]), *(f"{key}=" for key in listed)]
        keys.append(f"        {name}) keys=({shlex.join(offered)}) ;;")
        values += [
            f"    {shlex.quote(f'{name} {key}')}) values=({'@file' if v is None else shlex.join(v)}) ;;"
            for key, v in listed.items()
            if v != ()
        ]
    described = shlex.join(f"{name}:{command.help.replace(':', ',')}" for name, command in known.items())
    return _ZSH.format(commands=described, keys="\n".join(keys), values="\n".join(values))


def fish(known: Mapping[str, Command], words: Mapping[str, Words]) -> str:
    """A script for fish, where a known value is offered together with its key."""
    lines = ["# workbench completion for fish; load it with: workbench completion fish | source"]
    for name, command in known.items():
        lines.append(f"complete -c workbench -n __fish_use_subcommand -f -a {_fish(name)} -d {_fish(command.help)}")
    for name, listed in words.items():
        docs = RESERVED | {key: option.doc for key, option in options_of(known[name].config).items()}
        seen = f"complete -c workbench -n {_fish(f'__fish_seen_subcommand_from {name}')}"
        lines += [f"{seen} -a {_fish(word)}" for word in _leading(known[name])]
        for key, values in listed.items():
            for word in (f"{key}={value}" for value in values or ("",)):
                lines.append(f"{seen} -a {_fish(word)} -d {_fish(docs[key])}")
    return "\n".join(lines)


def _joined(values: tuple[str, ...] | None) -> str:
    # Quoted twice: once as the text of an assignment, once because compgen -W expands the words it is given.
    return "@file" if values is None else shlex.quote(shlex.join(values))


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


WRITERS: dict[str, Callable[[Mapping[str, Command], Mapping[str, Words]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}
COMMAND = Command("completion", "print the completion script of a shell", CompletionConfig, run, ("shell",))
