#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Install what cloudlb needs on a Debian 12 machine: packages, and a virtual environment here.

Needs only python3. Says what it will install before it does; does nothing that is done already.
Services of the installed packages are not started: neither the demo nor the tests use them.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "cloudlb-setup"
POLICY = Path("/usr/sbin/policy-rc.d")
EXTRAS = ".[cli,server,agent,test]"


def main() -> int:
    """Install what is missing; the exit status."""
    started = time.monotonic()
    missing = missing_packages()
    if missing:
        if os.geteuid() != 0:
            print(f"These Debian packages are missing: {' '.join(missing)}", file=sys.stderr)
            print("Run this as root, or have them installed.", file=sys.stderr)
            return 1
        print(f"Installing Debian packages (services stay off): {' '.join(missing)}", flush=True)
        install_packages(missing)
    if not environment_is_current():
        print(f"Installing Python packages into {VENV.relative_to(ROOT)}: {EXTRAS}", flush=True)
        install_environment()
    elapsed = time.monotonic() - started
    if elapsed > 1:
        print(f"Installed in {elapsed:.0f} s.", flush=True)
    return 0


def missing_packages() -> list[str]:
    """The packages of packages.txt that dpkg does not know as installed."""
    lines = (ROOT / "tools" / "packages.txt").read_text().splitlines()
    wanted = [name for line in lines if (name := line.split("#")[0].strip())]
    known = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    installed = {line.split()[0] for line in known if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def install_packages(names: list[str]) -> None:
    """apt-get, without recommended packages, without starting services."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with services_denied():
        for command in (
            ["apt-get", "-qq", "update"],
            ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *names],
        ):
            run(command, environment)


@contextlib.contextmanager
def services_denied() -> Iterator[None]:
    """A policy-rc.d that forbids to start services, unless the machine has one of its own."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def environment_is_current() -> bool:
    """Whether the virtual environment was made from the present pyproject.toml."""
    return STAMP.exists() and STAMP.read_text() == digest()


def install_environment() -> None:
    """Make or update the virtual environment."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if not (VENV / "bin" / "pip").exists():
        run([sys.executable, "-m", "venv", str(VENV)], environment)
    run([str(VENV / "bin" / "pip"), "install", "-q", "-e", EXTRAS], environment)
    STAMP.write_text(digest())


def digest() -> str:
    """What the environment depends on."""
    content = (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()
    return hashlib.sha256(content).hexdigest()


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command quietly; show what it said only when it fails."""
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        print(result.stdout, file=sys.stderr)
        raise SystemExit(f"{' '.join(command[:4])} … failed with status {result.returncode}")


if __name__ == "__main__":
    sys.exit(main())
