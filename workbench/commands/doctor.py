"""`workbench doctor`: what is installed, which backends work, what is missing and the command that adds it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.versions import DISTRIBUTION, version

if TYPE_CHECKING:
    from rich.console import RenderableType

_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_NAME = re.compile(r"[\w.-]+")
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_ON = ("1", "ON", "YES", "TRUE")
_FATAL = ("missing", "broken")
_TOLERANCE = 1e-5  # of float32 attention outputs of order one against float64


@chz.chz
class DoctorConfig:
    """Nothing to choose."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands, and the command that mends it where something is wrong.

    state: "ok"; "missing" or "broken" (required, so the exit code is 1); "absent" (optional).
    """

    topic: str
    name: str
    state: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 if something required is missing or broken."""
        return int(any(finding.state in _FATAL for finding in self.findings))

    def __rich__(self) -> RenderableType:
        """One table, and a last line that says whether the house stands."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("what", "name", "state", "detail"):
            table.add_column(title, overflow="fold", no_wrap=title != "detail")
        colours = {"ok": "green", "absent": "yellow"} | dict.fromkeys(_FATAL, "bold red")
        for f in self.findings:
            detail = f"{f.detail}; {f.remedy}" if f.remedy else f.detail
            table.add_row(Text(f.topic), Text(f.name), Text(f.state, style=colours[f.state]), Text(detail))
        faults = sum(finding.state in _FATAL for finding in self.findings)
        verdict = f"{faults} required part(s) missing or broken" if faults else "nothing required is missing"
        return Group(table, Text(f"\n{verdict}"))

    def summary(self) -> dict[str, Any]:
        """The findings as they are."""
        return {"ok": self.exit_code == 0, "findings": [asdict(finding) for finding in self.findings]}


def run(config: DoctorConfig) -> Diagnosis:
    """Look at everything; opens no connection and changes nothing."""
    heavy = (*_imported("device", _devices), *_imported("attention", _backends))
    return Diagnosis((*_here(), *_libraries(), *heavy, *_models(), *_pages(), *_network()))


def _here() -> Iterator[Finding]:
    yield Finding("python", platform.python_version(), "ok", f"{platform.system()}, {os.cpu_count()} processors")
    here = version(DISTRIBUTION)
    remedy = "" if here else "pip install -e . (in the checkout)"
    yield Finding("library", DISTRIBUTION, "ok" if here else "missing", here or "not installed", remedy)


def _libraries() -> Iterator[Finding]:
    """Every declared requirement, then the optional groups."""
    groups: dict[str, list[str]] = {}
    for line in metadata.requires(DISTRIBUTION) or [] if version(DISTRIBUTION) else []:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        extra = _EXTRA.search(marker)
        groups.setdefault(extra[1] if extra else "", []).append(requirement)
    for requirement in groups.pop("", []):
        fault = requirement_fault(requirement)
        remedy = f"pip install '{requirement}'" if fault else ""
        name = _name(requirement)
        yield Finding("library", name, "missing" if fault else "ok", fault or version(name) or "", remedy)
    for extra, requirements in groups.items():
        faults = [f"{_name(r)} {fault}" for r in requirements if (fault := requirement_fault(r))]
        remedy = f"pip install '{DISTRIBUTION}[{extra}]'" if faults else ""
        detail = ", ".join(faults) or ", ".join(map(_name, requirements))
        yield Finding("extra", extra, "absent" if faults else "ok", detail, remedy)


def requirement_fault(requirement: str) -> str:
    """Why `requirement` (as in package metadata) is not met, or nothing."""
    installed = version(_name(requirement))
    if installed is None:
        return "not installed"
    if importlib.util.find_spec("packaging") is None:
        return ""  # transformers needs packaging too, and is then reported as missing it
    from packaging.requirements import Requirement

    wanted = Requirement(requirement).specifier
    return "" if wanted.contains(installed, prereleases=True) else f"{installed} does not satisfy {wanted}"


def _imported(topic: str, probe: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Findings of a probe that imports libraries, any of which may be missing or damaged."""
    try:
        yield from probe()
    except (ImportError, OSError) as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        yield Finding(
            topic, getattr(error, "name", None) or "import", "broken", fault, "mend the libraries named above"
        )


def _devices() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding("device", "cuda", "absent", "no GPU that torch can use: work runs on the processor")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        yield Finding("device", f"cuda:{index}", "ok", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    yield Finding("device", "cpu", "ok", f"{torch.get_num_threads()} threads")


def _backends() -> Iterator[Finding]:
    """Run every attention backend on a small random input and compare it with the float64 reference."""
    import torch
    import workbench_kernels as kernels

    from workbench import backends

    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, 64, 16, generator=draw) for heads in (4, 2, 2))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = kernels.AttentionSpec(scale=0.25)
    truth = kernels.attend(q, k, v, spec, backend="reference")[0].double()
    yield Finding("attention", "auto", "ok", backends.explanation())
    for name in sorted(kernels.BACKENDS):
        reason = backends.no_triton(device) if name == "triton" else None
        if reason is not None:
            yield Finding("attention", name, "absent", reason)
            continue
        there = device if name == "triton" else torch.device("cpu")
        z, _ = kernels.attend(q.to(there), k.to(there), v.to(there), spec, backend=name)
        error = (z.cpu().double() - truth).abs().max().item()
        state = "ok" if error <= _TOLERANCE else "broken"
        yield Finding("attention", name, state, f"largest difference from the reference {error:.0e}")


def _models() -> Iterator[Finding]:
    from workbench.reference_models.catalogue import BUNDLED, PLANTED, folder

    for name in BUNDLED:
        if name in PLANTED:
            yield Finding("model", name, "ok", "built on load")
            continue
        there = (folder(name) / "config.json").is_file()
        remedy = "" if there else f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
        yield Finding("model", name, "ok" if there else "missing", "bundled" if there else "its files are gone", remedy)


def _pages() -> Iterator[Finding]:
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None) or _playwright_chromium()
    remedy = "" if found else "python -m playwright install chromium"
    yield Finding("browser", "chromium", "ok" if found else "absent", found or "needed by page tests only", remedy)


def _playwright_chromium() -> str | None:
    home = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    return next((str(folder) for folder in sorted(home.glob("chromium-*"))), None)


def _network() -> Iterator[Finding]:
    offline = [f"{name}={os.environ[name]}" for name in _OFFLINE if os.environ.get(name, "").upper() in _ON]
    detail = f"off by {', '.join(offline)}: bundled and local models only" if offline else "allowed; not tried"
    yield Finding("network", "model hub", "absent" if offline else "ok", detail)


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    return match[0] if match else requirement


COMMAND = Command("doctor", "what is installed, what works, what is missing and how to add it", DoctorConfig, run)
