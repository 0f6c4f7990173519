"""Eight scans at once into eight run folders, each what one alone gives. Run: python tests/benchmarks/load.py [SCANS]

Each is a process of the command line; their seconds are kept beside those of one alone. Files must be equal byte for byte,
but for what tells of time and place: run.json, report.html, progress.jsonl.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import measure

SCANS = 8
WORDS = ("scan-heads", "model=llama", "lengths=128,256", "rounds=2", "until=none", "json=true")
OF_THIS_RUN = ("run.json", "report.html", "progress.jsonl")


def begin(out: Path) -> subprocess.Popen[str]:
    """A scan, one thread each: torch's threads would only wait for one another."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(Path(sys.executable).parent / "workbench"), *WORDS, f"out={out}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)


def contents(out: Path) -> dict[str, str]:
    """A digest of every file of the one run folder below `out`, shards included."""
    (folder,) = out.iterdir()
    files = [f for f in folder.rglob("*") if f.is_file() and f.name not in OF_THIS_RUN]
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def together(folder: Path, scans: int) -> tuple[float, list[dict[str, str]]]:
    """Seconds until the last of so many has ended, and what each wrote. Raises AssertionError for one that failed."""
    start = time.perf_counter()
    outs = [folder / f"{scans}-{i}" for i in range(scans)]
    running = [begin(out) for out in outs]
    ends = [(process.communicate()[0], process.returncode) for process in running]
    assert all(code == 0 for _, code in ends), [code for _, code in ends]
    assert len({json.dumps(json.loads(text)["top"]) for text, _ in ends}) == 1, "the printed lists differ"
    return time.perf_counter() - start, [contents(out) for out in outs]


def loaded(scans: int = SCANS) -> dict[str, Any]:
    """One alone, then all at once."""
    with tempfile.TemporaryDirectory() as folder:
        alone, (reference,) = together(Path(folder), 1)
        seconds, found = together(Path(folder), scans)
    assert "scores.json" in reference and any(name.startswith("shards/") for name in reference)
    differing = sorted({n for one in found for n in one.keys() | reference.keys() if one.get(n) != reference.get(n)})
    return {
        "scans": scans, "files_each": len(reference), "differing": differing, "alone_seconds": round(alone, 2),
        "together_seconds": round(seconds, 2), "met": not differing,
    }  # fmt: skip


if __name__ == "__main__":
    before = measure.load()
    figures = loaded(int(sys.argv[1]) if len(sys.argv) > 1 else SCANS)
    print(figures, measure.keep("load", [figures], before) if figures["scans"] >= SCANS else "")
    sys.exit(0 if figures["met"] else 1)
