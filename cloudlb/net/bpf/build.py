# SPDX-License-Identifier: Apache-2.0
"""Compilation of the programs by clang, once for each state of their sources."""

import hashlib
import platform
import subprocess
from pathlib import Path

from cloudlb.model.errors import EngineError

SOURCES = Path(__file__).parent
_FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror")


def digest() -> str:
    """A name for the present sources: compiled objects and pins of other sources differ in it."""
    state = hashlib.sha256()
    for path in sorted(SOURCES.glob("*.[ch]")):
        state.update(path.name.encode() + b"\0" + path.read_bytes())
    return state.hexdigest()[:16]


def compile_program(source: str, directory: Path) -> Path:
    """The object file of ``source`` (a file name in this package), built if it is not there.

    Raises `EngineError` with clang's words when it does not compile.
    """
    target = directory / f"{Path(source).stem}-{digest()}.o"
    if target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".tmp")
    triplet = f"/usr/include/{platform.machine()}-linux-gnu"
    command = ["clang", *_FLAGS, f"-I{triplet}", "-c", str(SOURCES / source), "-o", str(draft)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EngineError("clang is not installed; install the package clang.") from error
    if result.returncode:
        raise EngineError(f"{source} does not compile.", result.stderr)
    draft.rename(target)
    return target
