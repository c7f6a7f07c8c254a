# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the lab; every message says what to do."""


class LabError(Exception):
    """The lab cannot do what was asked."""


class AlreadyRunningError(LabError):
    """A lab of that name is up, or is being worked on."""

    def __init__(self, name: str, doing: str = "is running already") -> None:
        super().__init__(
            f"lab {name!r} {doing}; look at it with 'cloudlb-lab --name {name} status', "
            f"end it with 'cloudlb-lab --name {name} down' or choose another --name"
        )


class NotRunningError(LabError):
    """There is no lab of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"lab {name!r} is not up; start it with 'cloudlb-lab --name {name} up'")


class UnknownNameError(LabError):
    """A host, guest or service that the lab does not have."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(f"there is no {kind} {name!r}; there are: {', '.join(known)}")


class MissingProgramError(LabError):
    """A program that the lab needs is not installed."""

    def __init__(self, programs: list[str], packages: list[str]) -> None:
        super().__init__(
            f"not installed: {', '.join(programs)}; "
            f"install with 'apt-get install {' '.join(packages)}'"
        )


class DeadlineError(LabError):
    """Something did not become ready in time."""

    def __init__(self, what: str, seconds: float, hint: str = "") -> None:
        super().__init__(f"{what} not within {seconds:g} s" + (f"; {hint}" if hint else ""))
