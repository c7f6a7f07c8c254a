# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks: modules ``p<number>_…``, ``d<number>_…``, ``l<number>_…`` are rows.

    python -m benchmarks [--cache DIRECTORY] [--only P6 …] [--write-readme]

Writes ``build/bench.json`` (all samples) and ``build/bench.md`` (the table).
"""

import argparse
import datetime
import importlib
import json
import os
import pkgutil
import platform
import re
import signal
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks.context import Context
from benchmarks.result import Line, Result, markdown, place, write_into
from cloudlb.lab.image import DEFAULT_CACHE

ROOT = Path(__file__).parents[1]
_ROW = re.compile(r"([pdl])(\d+)_")


def row_modules() -> dict[str, str]:
    """Module names by row, in the rows' order."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    named = [m for name in found if (m := _ROW.match(name))]
    rows = {f"{m[1].upper()}{int(m[2])}": f"benchmarks.{m.string}" for m in named}
    return {row: rows[row] for row in sorted(rows, key=place)}


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    clang = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "clang": clang.stdout.splitlines()[0],
        "cloudlb": version("cloudlb"),
    }


def run(names: list[str], context: Context) -> dict[str, tuple[Result, float]]:
    """Results of rows, and the load by others meanwhile."""
    modules = row_modules()
    results = {}
    for name in names:
        context.say(f"{name}: {modules[name]}")
        module = importlib.import_module(modules[name])
        with context.foreign() as foreign:
            result = module.measure(context)
        results[name] = result, foreign.rate
        for line in result.lines:
            context.say(f"  {' | '.join(line.cells()[1:])}")
    return results


def write(results: dict[str, tuple[Result, float]], directory: Path) -> str:
    """Both files; returns the table."""
    about = environment()
    rows = {
        name: {"foreign": foreign, "samples": result.samples}
        for name, (result, foreign) in results.items()
    }
    (directory / "bench.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    lines: list[Line] = [line for result, _ in results.values() for line in result.lines]
    where = f"{about['date'][:10]} at {about['commit']}, Linux {about['kernel']}"
    circumstances = {
        line.row: f"{where}, {about['cpus']} CPUs, others used {foreign:.1f}{result.where}"
        for result, foreign in results.values()
        for line in result.lines
    }
    table = markdown(lines, circumstances)
    (directory / "bench.md").write_text(table)
    return table


def main() -> None:
    """Run what the command line asks for."""
    modules = row_modules()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="of the lab")
    parser.add_argument("--only", nargs="+", choices=list(modules), default=list(modules))
    parser.add_argument("--write-readme", action="store_true", help="put the rows there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = ROOT / "build"
    directory.mkdir(exist_ok=True)
    with Context(directory, options.cache) as context:
        table = write(run(options.only, context), directory)
    if options.write_readme:
        write_into(ROOT / "README.md", table)


if __name__ == "__main__":
    main()
