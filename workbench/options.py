"""The options of a command: read from its chz class, filled from a config file and `key=value` words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import chz
import chz.util
from chz.blueprint import Castable
from chz.blueprint._entrypoint import EntrypointException

from workbench.casting import NotThat, conform, takes_list, type_name
from workbench.command import Command
from workbench.config_files import read_config
from workbench.errors import BadInput, did_you_mean
from workbench.model_options import fields_of

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "required"})()
RESERVED = {
    "config": "a YAML or JSON file of options; what is typed beside it wins",
    "json": "print the summary as JSON on stdout",
}
_KEY = re.compile(r"[A-Za-z_][\w.-]*")


@dataclass(frozen=True)
class Option:
    """One `key=value`: its dotted key, the annotated type, the default (or REQUIRED) and its help."""

    key: str
    kind: Any
    default: Any
    doc: str


@dataclass(frozen=True)
class Request:
    """What a command line asks: the filled config, and whether the answer is for a machine."""

    config: Any
    json: bool


def options_of(config: type) -> dict[str, Option]:
    """Every option of a chz class by its dotted key, nested classes included, in the order of `fields_of`."""
    found: dict[str, Option] = {}
    for name, field in fields_of(config).items():
        default = _default(field)
        nested: Any = next((arm for arm in (field.x_type, *get_args(field.x_type)) if chz.is_chz(arm)), None)
        if nested is None:
            found[name] = Option(name, field.x_type, default, field._doc)
            continue
        for key, option in options_of(nested).items():
            shown = option.default
            if default is None or chz.is_chz(default):
                shown = _reach(default, key)
            found[f"{name}.{key}"] = Option(f"{name}.{key}", option.kind, shown, option.doc)
    return found


def parse(command: Command, words: Sequence[str]) -> Request:
    """Fill the command's config. Raises BadInput, in one line, for whatever cannot be meant."""
    options = options_of(command.config)
    typed = _pairs(command, options, words)
    as_json = _flag("json", typed.pop("json", "false")) if "json" not in options else False
    values: dict[str, Any] = {}
    if "config" not in options and "config" in typed:
        file = typed.pop("config")
        for word, value in read_config(file, frozenset(options)).items():
            key = _known(command, options, word, f" in {file}")
            values[key] = _fit(options[key], value, f" in {file}")
    values |= {key: _fit(options[key], text, "") for key, text in typed.items()}
    missing = [option for key, option in options.items() if option.default is REQUIRED and key not in values]
    if missing:
        asked = ", ".join(f"{option.key}={option.doc and f' ({option.doc})'}" for option in missing)
        raise BadInput(f"{command.name} needs {asked}; see workbench {command.name} --help")
    return Request(_construct(command.config, _with_siblings(command.config, values)), as_json)


def command_line(command: Command, config: Any, always: Sequence[str] = (), never: Sequence[str] = ()) -> str:
    """The shortest command that makes this config: what differs from the defaults, quoted for a shell.

    always, never: keys that are said, or left out, whatever their values.
    """
    import shlex

    words = ["workbench", command.name]
    for key, option in options_of(command.config).items():
        value = _reach(config, key)
        differs = value is not None and value != option.default
        if key in always or (differs and key not in never):
            words.append(f"{key}={written(value)}")
    return shlex.join(words)


def written(value: Any) -> str:
    """A value as it would be typed: `256,512`, `true`, `none`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ",".join(written(item) for item in value) + ("," if len(value) == 1 and value[0] == "" else "")
    return str(getattr(value, "name", value)) if not isinstance(value, Path) else str(value)


def _pairs(command: Command, options: Mapping[str, Option], words: Sequence[str]) -> dict[str, Any]:
    """Words as key and text: `key=value`, `--key=value`, `--json`, or a leading value without a key.

    A place that takes a list takes all values without a key that are left, as a list.
    """
    typed: dict[str, Any] = {}
    places = [name for name in command.positional]
    for index, word in enumerate(words):
        key, equals, text = word.partition("=")
        bare = key.lstrip("-")
        if bare == "json" and not equals and word.startswith("--"):
            key, text = "json", "true"
        elif equals and _KEY.fullmatch(bare):
            key = _known(command, options, bare, "")
        elif word.startswith("--") or word in options:
            raise BadInput(_use_equals(options, bare, words[index + 1 :]))
        elif places and takes_list(options[places[0]].kind):
            typed.setdefault(places[0], []).append(word)
            continue
        elif places:
            key, text = places.pop(0), word
        else:
            raise BadInput(f"{word!r} is not an option of {command.name}: options are written key=value")
        if key in places:
            places.remove(key)
        if key in typed:
            raise BadInput(f"{key} is given twice ({key}={typed[key]} and {key}={text}): give it once")
        typed[key] = text
    return typed


def _known(command: Command, options: Mapping[str, Option], key: str, where: str) -> str:
    """The option that a key names, dashes read as underscores. Raises BadInput with the nearest key."""
    every = [*options, *(word for word in RESERVED if not where)]
    for candidate in (key, key.replace("-", "_")):
        if candidate in every:
            return candidate
    below = [name for name in options if name.startswith(f"{key}.")]
    if below:
        raise BadInput(f"{key} has options of its own{where}: {', '.join(f'{name}=' for name in below)}")
    ends_alike = [name for name in options if name.rpartition(".")[2] == key]
    hint = f" Did you mean {ends_alike[0]!r}?" if ends_alike else did_you_mean(key, every)
    raise BadInput(f"{command.name} has no option {key!r}{where}.{hint} workbench {command.name} --help lists them")


def _use_equals(options: Mapping[str, Option], key: str, rest: Sequence[str]) -> str:
    key = key if key in options else key.replace("-", "_")
    value = rest[0] if rest and "=" not in rest[0] and not rest[0].startswith("--") else "VALUE"
    if value == "VALUE" and key in options and options[key].kind is bool:
        value = "true"
    return f"use key=value: {key}={value}{'' if key in options else did_you_mean(key, options)}"


def _fit(option: Option, value: Any, where: str) -> Any:
    """A value in the type of its option; text of types that only chz knows is left to chz."""
    try:
        return conform(value, option.kind)
    except NotThat as fault:
        raise BadInput(f"{option.key}{where}: {fault} ({option.key} takes {type_name(option.kind)})") from None
    except TypeError:
        return Castable(value) if isinstance(value, str) else value


def _flag(key: str, text: str) -> bool:
    return _fit(Option(key, bool, False, ""), text, "")


def _with_siblings(config: type, values: dict[str, Any]) -> dict[str, Any]:
    """chz builds a nested class anew when one of its keys is given: keep the rest of the declared default."""
    whole = dict(values)
    for field in chz.chz_fields(config).values():
        name, default = field.logical_name, _default(field)
        if chz.is_chz(default) and any(key.startswith(f"{name}.") for key in values):
            for key in options_of(type(default)):
                whole.setdefault(f"{name}.{key}", _reach(default, key))
    return whole


def _construct(config: type, values: dict[str, Any]) -> Any:
    """Let chz build and validate the config; its errors and those of validators become one line."""
    try:
        return chz.Blueprint(config).apply(values).make()
    except BadInput:
        raise
    except (EntrypointException, ValueError, TypeError) as error:
        text = str(error).partition("- Failed to interpret it as a factory")[0]
        text = text.replace("...\n\n- Failed to interpret it as a value:\n", ": ")
        raise BadInput(re.sub(r"\bX_(\w)", r"\1", " ".join(text.split()))) from None


def _default(field: Any) -> Any:
    if not isinstance(field._default_factory, chz.util.MISSING_TYPE):
        return field._default_factory()
    return REQUIRED if isinstance(field._default, chz.util.MISSING_TYPE) else field._default


def _reach(value: Any, key: str) -> Any:
    for name in key.split("."):
        value = getattr(value, name, None)
    return value
