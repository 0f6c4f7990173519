"""What a power cut may leave of a folder: only bytes and names that were synced."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from faults import Writes


class PowerCuts:
    """Follows the writes below `out` and, before each, rebuilds in `cuts/<n>/` what a disk would have kept at worst.

    At worst: a file has the bytes of its last sync, or none; a folder has the names of its last sync. `out` is there.
    beside: files elsewhere, which are copied as they are.
    """

    def __init__(self, out: Path, cuts: Path, beside: tuple[Path, ...] = ()) -> None:
        self.out, self.cuts, self.beside = out, cuts, beside
        self._key, self._new = {out.stat().st_ino: 0}, itertools.count(1)
        self._names: dict[int, dict[str, tuple[int, bool]]] = {0: {}}
        self._bytes: dict[int, bytes] = {}
        self._fresh = False
        self.writes = Writes(out, self._before, self._after)

    def _before(self, n: int, kind: str, path: str) -> None:
        self._fresh = not os.path.exists(path)
        self._rebuild(0, self.cuts / str(n) / self.out.name)
        for file in self.beside:
            if file.exists():
                (self.cuts / str(n) / file.name).write_bytes(file.read_bytes())

    def _after(self, n: int, kind: str, path: str) -> None:
        if kind in ("open", "mkdir") and self._fresh:  # the number of a removed file may be given again
            self._key[os.stat(path).st_ino] = next(self._new)
        elif kind == "fsync" and os.path.isdir(path):
            entries = list(os.scandir(path))
            self._names[self._of(path)] = {e.name: (self._key[e.inode()], e.is_dir()) for e in entries}
        elif kind == "fsync":
            self._bytes[self._of(path)] = Path(path).read_bytes()

    def _of(self, path: str) -> int:
        return self._key[os.stat(path).st_ino]

    def _rebuild(self, key: int, place: Path) -> None:
        place.mkdir(parents=True)
        for name, (inside, folder) in self._names.get(key, {}).items():
            if folder:
                self._rebuild(inside, place / name)
            else:
                (place / name).write_bytes(self._bytes.get(inside, b""))
