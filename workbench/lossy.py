"""Streams for what is said on the way: where nothing can be written, words are lost, and never the work."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any


class Lossy:
    """A text stream whose disk may be full, or whose reader may have gone away. For progress and messages, not answers.

    stream: None where a process was started with that stream closed; a number that is free would else be given to the next
    file that is opened, and libraries that write to number 2 would write into it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115

    def write(self, text: str) -> int:
        """As of any stream; what is lost counts as written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """As of any stream."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As of any stream."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)
