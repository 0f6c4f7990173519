"""The command line: finds a command, fills its options, runs it, prints its answer, maps errors to exit codes.

Exit codes: 0 done, 2 something that was asked for cannot be meant, 1 work that failed, 130 stopped by
Ctrl-C (143 by SIGTERM, 129 by SIGHUP), 141 the reader of the output went away. The answer goes to stdout,
everything else to stderr.
Nothing heavy is imported before the arguments are valid.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import workbench
from workbench.command import Command
from workbench.discovery import commands as discover
from workbench.errors import BadInput, WorkbenchError, did_you_mean
from workbench.invocation import arguments, command_line
from workbench.lossy import Lossy
from workbench.terminating import Terminated, terminable
from workbench.untrusted import printable

DEBUG = "WORKBENCH_DEBUG"
_HELP = ("--help", "-h")
_PIPE_WIDTH = 120  # columns of tables when stdout is no terminal
_LONGEST = 2000  # characters of an error: a file may hold a name of megabytes


def main(argv: Sequence[str] | None = None, commands: Mapping[str, Command] | None = None) -> int:
    """Answer one command line and return its exit code; never raises for what users or machines do.

    argv: the words after `workbench` (default: this process's). commands: default all that are installed.
    A result may carry an `exit_code` of its own, for answers that are bad news.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    typed = arguments.set(tuple(words))
    try:
        with terminable():
            return _answer(words, commands)
    except WorkbenchError as error:
        return _say(f"error: {error}", error.exit_code)
    except KeyboardInterrupt as stop:
        again = f"stopped; what a run folder holds is kept, the same command goes on from there: {command_line()}"
        return _say(again, stop.exit_code if isinstance(stop, Terminated) else 130)
    except BrokenPipeError:
        # Python flushes stdout once more on exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ModuleNotFoundError as error:
        return _say(f"error: {error}: workbench doctor tells how to install what is missing", 1)
    except OSError as error:
        return _say(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception as error:
        if _ran_out(error):
            return _say(f"error: memory ran out ({error}): ask for less, or for less at a time", 1)
        # the last line of defence: users get one line, developers ask for more
        what = f"{type(error).__name__}: {error}"
        return _say(f"internal error: {what}; run with {DEBUG}=1 for the traceback", 1)
    finally:
        arguments.reset(typed)


def _answer(words: list[str], commands: Mapping[str, Command] | None) -> int:
    if words[:1] in (["--version"], ["version"]):
        print(f"workbench {workbench.__version__}", flush=True)
        return 0
    known = discover() if commands is None else commands
    if not words or words[0] in (*_HELP, "help"):
        return _help(words[1:], known)
    command = _find(words[0], known)
    if any(word in _HELP for word in words[1:]) or words[1:] == ["help"]:
        return _help([command.name], known)
    from workbench.options import parse

    request = parse(command, words[1:])
    heard = Lossy(sys.stderr)  # a night's work does not end with the log's disk or the terminal
    # Libraries print where they like; stdout is for the answer.
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(heard):
        result = command.run(request.config)
    _print(result, request.json)
    return int(getattr(result, "exit_code", 0))


def _find(name: str, known: Mapping[str, Command]) -> Command:
    if name in known:
        return known[name]
    if name.startswith("-") or "=" in name:
        raise BadInput(f"a command comes first, {name!r} is none: workbench --help lists them")
    raise BadInput(f"no command {name!r}.{did_you_mean(name, known)} workbench --help lists them")


def _help(about: list[str], known: Mapping[str, Command]) -> int:
    from workbench.usage import manual, overview

    console = _console()
    for part in manual(_find(about[0], known)) if about else overview(known):
        console.print(part)
    sys.stdout.flush()
    return 0


def _print(result: Any, as_json: bool) -> None:
    if as_json:
        from workbench.jsonable import dumps

        sys.stdout.write(dumps(result.summary(), indent=2) + "\n")
    else:
        # Cropping is for pictures; a script or a path that is longer than the terminal must stay whole.
        _console().print(result, crop=False)
    sys.stdout.flush()


def _console() -> Any:
    from rich.console import Console
    from rich.segment import Segment

    class Screen(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            for part in super().render(renderable, options):  # names out of files may hold commands to the terminal
                yield part if part.control else Segment(printable(part.text, "\n\t"), part.style)

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1, as if work had failed

    return Screen() if sys.stdout.isatty() else Screen(width=_PIPE_WIDTH)


def _ran_out(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from workbench.budget import ran_out

    return ran_out(error)


def _say(message: str, code: int) -> int:
    """One line on stderr; under WORKBENCH_DEBUG=1 the traceback before it."""
    heard = Lossy(sys.stderr)
    if os.environ.get(DEBUG) == "1" and sys.exc_info()[0] is not None:
        traceback.print_exc(file=heard)
    line = printable(" ".join(message.split()))
    print(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …", file=heard, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
