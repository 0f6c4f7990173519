"""docs/benchmarks.md from the results that are kept. Run: python tests/benchmarks/benchmark_tables.py

A script that keeps its figures (`measure.keep`) has its section without further ado: what its docstring says first, where
and when it was measured, and its figures, rows of one shape in one table. One that kept none is "not measured".
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
KEEPS = re.compile(r"measure\.keep\(\s*\"(\w+)\"")
ASIDE = ("complete", "load_average")
"""What is said once above the tables, or not at all."""
HEAD = """# Benchmarks

Written by `python tests/benchmarks/benchmark_tables.py` from `tests/benchmarks/results`; a script that measures again writes
it anew. Times are seconds; three figures in a cell are the median and, in brackets, the least and the largest. `ratio` is the
peer's time over ours; `times` is the same for eager peers, and ours over the peer's for SDPA. `target` is a goal that was set
before measuring. Load averages are those of 1, 5 and 15 minutes, before and after: above the number of cores, something else
was at work.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([HEAD, *(section(name, script) for name, script in scripts().items())])


def scripts() -> dict[str, Path]:
    """Scripts by the name of what they keep, sorted."""
    found = {name: path for path in HERE.glob("*.py") for name in KEEPS.findall(path.read_text(encoding="utf-8"))}
    return dict(sorted(found.items()))


def section(name: str, script: Path) -> str:
    """One script: what it measures, where it was measured, its tables."""
    doc = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    about = re.split(r"\. Run[^:]*: |\.?\n\n", doc)[0]
    lines = [f"## {name.replace('_', ' ').capitalize()}", "", f"{about} (`python {script.relative_to(ROOT)}`).", ""]
    result = HERE / "results" / f"{name}.json"
    if not result.is_file():
        return "\n".join([*lines, "**Not measured**: no figures are kept.", ""])
    record = json.loads(result.read_text(encoding="utf-8"))
    return "\n".join([*lines, measured(record), "", *tables(record["figures"])])


def measured(record: Mapping[str, Any]) -> str:
    """Date, machine, versions, load, whether all of it was measured, and goals that are met."""
    where = [f"{record['date'][:16].replace('T', ' ')} UTC" if "date" in record else "Date and machine not recorded"]
    if machine := record.get("machine"):
        where.append("{cpu}, {cores} cores, {memory_gib} GiB, {threads} threads".format(**machine))
        where.append(", ".join(f"{name} {version}" for name, version in record["versions"].items()))
        before, after = (" / ".join(map(str, record["load_average"][when])) for when in ("before", "after"))
        where.append(f"load {before}, then {after}")
    told = [row["complete"] for row in record["figures"] if "complete" in row]
    met = [row["met"] for row in record["figures"] if row.get("met") is not None]
    state = "Whether it is complete was not recorded."
    if told:
        state = "Complete." if all(told) else "**Not complete**: cut off before its end."
    return " ".join([f"{'; '.join(where)}. {state}", *([f"{sum(met)} of {len(met)} goals met."] if met else [])])


def tables(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """Rows with the same columns in one table, in the order in which they first come; lists of rows in a row below it."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in figures:
        kept = {key: value for key, value in row.items() if key not in ASIDE}
        if kept:
            groups.setdefault(tuple(kept), []).append(kept)
    return [part for rows in groups.values() for part in _table(rows)]


def _table(rows: list[Mapping[str, Any]]) -> list[str]:
    within = [key for key in rows[0] if any(_rows(row[key]) for row in rows)]
    columns = [key for key in rows[0] if key not in within and any(row[key] is not None for row in rows)]
    lines = [columns, ["---"] * len(columns), *([cell(key, row[key]) for key in columns] for row in rows)]
    table = "\n".join([*(f"| {' | '.join(line)} |".replace("_", " ") for line in lines), ""])
    return [table, *(part for row in rows for key in within for part in (f"{key}:\n", *tables(row[key])))]


def _rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def cell(key: str, value: Any) -> str:
    """A value as a reader wants it; columns without any value are left out."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return {"met": ("**missed**", "met")}.get(key, ("no", "yes"))[value]
    if isinstance(value, Mapping) and {"min", "median", "max"} <= set(value):
        low, middle, high = (number(value[at]) for at in ("min", "median", "max"))
        return f"{middle} ({low}–{high})"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(name, item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(
            cell(key, item).replace(",", "") if isinstance(item, list) else cell(key, item) for item in value
        )
    return number(value) if isinstance(value, int | float) else str(value).replace("|", "\\|")


def number(value: float) -> str:
    """Three digits, whole numbers whole."""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"


def write() -> Path:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return PAGE


if __name__ == "__main__":
    print(write())
