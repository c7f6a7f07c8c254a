# SPDX-License-Identifier: Apache-2.0
"""How attributes look in a table; machine-readable formats get the API's own data."""

from collections.abc import Iterable, Mapping
from typing import Any

from cliff.columns import FormattableColumn
from openstack.resource import Resource


class Several(FormattableColumn[list[Any]]):
    """A list in the API's order."""

    def human_readable(self) -> str:
        """``a, b``."""
        return ", ".join(map(str, self._value))


class Services(FormattableColumn[list[dict[str, Any]]]):
    """Ports, written as ``--port`` takes them."""

    def human_readable(self) -> str:
        """``tcp:80, udp:53``."""
        return ", ".join(f"{each['protocol']}:{each['port']}" for each in self._value)


class Settings(FormattableColumn[dict[str, Any] | None]):
    """A monitor, written as ``--monitor`` takes it."""

    def human_readable(self) -> str:
        """``type=tcp,interval=1.0``; nothing for no monitor."""
        known = {k: v for k, v in (self._value or {}).items() if v is not None}
        return ",".join(f"{key}={text}" for key, text in known.items())


class Conditions(FormattableColumn[dict[str, dict[str, str]]]):
    """A pool's conditions."""

    def human_readable(self) -> str:
        """A line for each: name, state and reason."""
        texts = {name: f"{c['state']} ({c['reason']})" for name, c in self._value.items()}
        return "\n".join(f"{name}: {text.removesuffix(' ()')}" for name, text in texts.items())


class Members(FormattableColumn[list[dict[str, Any]]]):
    """A pool's members."""

    def human_readable(self) -> str:
        """A line for each: name, host and health."""
        form = "{name} on {where}: {health}".format
        return "\n".join(form(where=m["host"] or "no host", **m) for m in self._value)


class Uplinks(FormattableColumn[list[dict[str, Any]]]):
    """A host's interfaces in networks."""

    def human_readable(self) -> str:
        """A line for each: network, interface and its addresses."""
        form = "{network}: {interface} {mac} {held}".format
        return "\n".join(form(held=" ".join(u["addresses"]), **u) for u in self._value)


_FORMS: dict[str, type[FormattableColumn[Any]]] = {
    "ports": Services,
    "monitor": Settings,
    "status": Conditions,
    "members": Members,
    "uplinks": Uplinks,
}
_HEADS = {word: word.upper() for word in ("id", "vip", "mac")}


def row(names: Iterable[str], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """The named values, each as cliff shows it."""
    return tuple(_shown(name, values[name]) for name in names)


def flat(item: Resource) -> Mapping[str, Any]:
    """An object's attributes; of its conditions, if it has some, the states."""
    conditions = item.get("status") or {}
    return {**dict(item.items()), **{name: each["state"] for name, each in conditions.items()}}


def head(name: str) -> str:
    """An attribute's column head: ``vip_range`` is "VIP Range"."""
    return " ".join(_HEADS.get(word, word.capitalize()) for word in name.split("_"))


def _shown(name: str, value: Any) -> Any:
    if name in _FORMS:
        return _FORMS[name](value)
    return Several(value) if isinstance(value, list) else value
