# SPDX-License-Identifier: Apache-2.0
"""What the commands share: each verb once, and the errors of the API in plain words.

A command is a noun and a verb: ``class ShowPool(_Pools, Show)``.
"""

import argparse
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from keystoneauth1.exceptions import ClientException, ConnectFailure, DiscoveryFailure
from openstack.exceptions import (
    HttpException,
    NotSupported,
    PreconditionFailedException,
    ResourceTimeout,
    SDKException,
    ServiceDisabledException,
)
from osc_lib.command import command
from osc_lib.exceptions import CommandError

from cloudlb.client.osc import arguments, columns
from cloudlb.client.proxy import Proxy, Unknown
from cloudlb.schemas.fields import PAGING, Schema
from cloudlb.schemas.version import SERVICE_TYPE

_SEVERAL = "repeat for several"
_OWNERS = {"member": "pool "}


def told(error: Exception) -> str:
    """An error as a sentence for the user of a command."""
    if isinstance(error, ConnectFailure | DiscoveryFailure | NotSupported):
        return _unreachable(str(error))
    if isinstance(error, ServiceDisabledException):
        return (
            f"The catalog of this cloud has no {SERVICE_TYPE} service: register it, or set "
            f"{SERVICE_TYPE.replace('-', '_')}_endpoint_override in clouds.yaml."
        )
    if isinstance(error, Unknown):
        command = f"{_OWNERS.get(error.noun, '')}{error.noun} list"
        return f"{error.message} Those that there are: openstack anycast {command}"
    if isinstance(error, PreconditionFailedException):
        return "Somebody else has changed it meanwhile. Look at it, and repeat the command."
    if isinstance(error, HttpException) and error.details is None:
        return str(error.message)
    return str(error)


def _unreachable(complaint: str) -> str:
    """What a library complains of that has not found the API; it names a place that is silent."""
    place = re.search(r"https?://[^\s,/]+", complaint)
    if place is None:
        return (
            f"What answers is no {SERVICE_TYPE} API of version 1: correct the catalog, or name "
            "the address of cloudlb-api by OS_ENDPOINT."
        )
    tls = ", behind a proxy that ends TLS" if place[0].startswith("https:") else ""
    return f"No {SERVICE_TYPE} API answers at {place[0]}; is cloudlb-api running there{tls}?"


class Command(command.Command):
    """A command on the proxy. ``owner`` names the noun that its own noun is a part of."""

    noun = ""
    owner = ""
    #: What ``--wait`` waits for; nothing for a noun that is realized at once.
    until = ""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The parser with what every command of this kind takes."""
        parser = super().get_parser(prog_name)
        if self.owner:
            self._add_reference(parser, self.owner)
        self._add(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command; an error of the API becomes one plain sentence and exit code 1."""
        self._began = time.monotonic()
        try:
            return super().run(parsed_args)
        except (SDKException, ClientException) as error:
            raise CommandError(told(error)) from error

    @property
    def proxy(self) -> Proxy:
        """The API."""
        client: Proxy = self.app.client_manager.anycast  # type: ignore[attr-defined]
        return client

    def _add(self, parser: Any) -> None:
        """Add what this command takes."""

    def _add_reference(self, parser: Any, noun: str, **more: Any) -> None:
        form = {"metavar": f"<{noun}>", "help": f"Name or ID of the {noun}"}
        parser.add_argument(noun, **form | more)

    def _add_wait(self, parser: Any, until: str) -> None:
        if until:
            arguments.add_wait(parser, until)

    def _seconds_left(self, args: argparse.Namespace) -> float | None:
        """What is left of ``--timeout``; None without ``--wait``."""
        if not getattr(args, "wait", False):
            return None
        return float(max(0.0, self._began + args.timeout - time.monotonic()))

    def _settle(self, args: argparse.Namespace, item: Any, done: str) -> None:
        """With ``--wait``, return when the item's pool is realized or say why it is not."""
        if (left := self._seconds_left(args)) is None:
            return
        try:
            self.proxy.wait_for_pool(getattr(item, "pool_id", item.id), left)
        except ResourceTimeout as error:
            what = f"The {self.noun} '{item.name}' ({item.id}) is {done}"
            raise CommandError(f"{what}, but after {args.timeout:g} s it {error}") from error


class Noun(Command):
    """A command on a noun; its hooks say which methods of the proxy belong to the noun."""

    fields: tuple[str, ...] = ()
    spec: Mapping[str, Schema]
    #: Fields to which ``set`` adds; ``(flag, field)`` each.
    lists: tuple[tuple[str, str], ...] = ()

    def _options(self, parser: Any, creates: bool) -> None:
        """Add the options of ``create`` and ``set``."""

    def _items(self, args: argparse.Namespace, query: dict[str, Any]) -> Iterable[Any]:
        raise NotImplementedError

    def _find(self, args: argparse.Namespace, reference: str) -> Any:
        raise NotImplementedError

    def _create(self, args: argparse.Namespace, attrs: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _update(self, args: argparse.Namespace, item: Any, attrs: dict[str, Any]) -> None:
        raise NotImplementedError

    def _delete(self, item: Any) -> None:
        raise NotImplementedError


class Table(Command, command.Lister):
    """A command whose result is rows."""

    def _table(self, names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> tuple[Any, Any]:
        names = tuple(names)
        return tuple(map(columns.head, names)), [columns.row(names, each) for each in rows]


class List(Noun, Table):
    """A command that lists objects: ``names`` are its columns, ``--long`` shows more of them."""

    names: tuple[str, ...]
    long_names: tuple[str, ...] = ()

    def _add(self, parser: Any) -> None:
        page: dict[str, Schema] = {"limit": PAGING["limit"]}
        parser.add_argument("--name", metavar="<name>", help=f"Only the {self.noun} of this name")
        arguments.add(parser, "--limit", page)
        last = f"ID of the last {self.noun} of the page before"
        parser.add_argument("--marker", metavar=f"<{self.noun}>", help=last)
        if self.long_names:
            parser.add_argument("--long", action="store_true", help="Show more columns")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        """Ask for the page and show it."""
        query = arguments.given(parsed_args, ("name", "limit", "marker"))
        names = self.names + (self.long_names if getattr(parsed_args, "long", False) else ())
        return self._table(names, map(columns.flat, self._items(parsed_args, query)))


class Show(Noun, command.ShowOne):
    """A command that shows one object; ``fields`` are its attributes in order."""

    def _add(self, parser: Any) -> None:
        self._add_reference(parser, self.noun)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        """Find it and show it."""
        return self._shown(parsed_args, getattr(parsed_args, self.noun))

    def _shown(self, args: argparse.Namespace, reference: str) -> tuple[Any, Any]:
        return self.fields, columns.row(self.fields, self._find(args, reference))


class Create(Show):
    """A command that creates one object and shows it."""

    def _add(self, parser: Any) -> None:
        self._options(parser, creates=True)
        self._add_wait(parser, self.until)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        """Create it and show it."""
        item = self._create(parsed_args, arguments.given(parsed_args, self.spec))
        self._settle(parsed_args, item, "created")
        return self._shown(parsed_args, item.id)


class Set(Noun):
    """A command that changes an object: it adds to lists, with ``--no-…`` it replaces them."""

    def _add(self, parser: Any) -> None:
        self._add_reference(parser, self.noun)
        self._options(parser, creates=False)
        for flag, field in self.lists:
            no = {"dest": f"no_{field}", "help": f"Remove all that {flag} does not name"}
            parser.add_argument(f"--no-{flag[2:]}", action="store_true", **no)
        self._add_wait(parser, self.until)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Change it."""
        item = self._find(parsed_args, getattr(parsed_args, self.noun))
        self._update(parsed_args, item, self._changes(parsed_args, item))
        self._settle(parsed_args, item, "changed")

    def _changes(self, args: argparse.Namespace, item: Any) -> dict[str, Any]:
        changes = arguments.given(args, self.spec)
        for _, field in self.lists:
            named, cleared = changes.get(field, []), getattr(args, f"no_{field}")
            if named or cleared:
                kept = [] if cleared else item[field]
                changes[field] = [*kept, *(each for each in named if each not in kept)]
                changes |= _unless_changed(item)
        return changes


class Unset(Set):
    """A command that gives fields their defaults, and removes from lists."""

    #: ``(flag, field)`` each.
    resets: tuple[tuple[str, str], ...]

    def _add(self, parser: Any) -> None:
        self._add_reference(parser, self.noun)
        for flag, field in self.resets:
            form = {"dest": "resets", "const": field, "help": f"Reset {field}"}
            parser.add_argument(flag, action="append_const", **form)
        for flag, field in self.lists:
            arguments.add(parser, flag, self.spec, field, help=f"Remove from {field}; {_SEVERAL}")
        self._add_wait(parser, self.until)

    def _changes(self, args: argparse.Namespace, item: Any) -> dict[str, Any]:
        changes: dict[str, Any] = dict.fromkeys(args.resets or (), None)
        for flag, field in self.lists:
            if gone := getattr(args, field) or []:
                if any(each not in item[field] for each in gone):
                    raise CommandError(f"{flag}: '{item.name}' has no such {flag[2:]}.")
                changes[field] = [each for each in item[field] if each not in gone]
                changes |= _unless_changed(item)
        return changes


def _unless_changed(item: Any) -> dict[str, Any]:
    """What was read is written back with a change, so nobody may have written in between."""
    return {"if_match": f'"{item.generation}"'}


class Delete(Noun):
    """A command that deletes several objects and goes on when one of them fails."""

    gone = ""

    def _add(self, parser: Any) -> None:
        self._add_reference(parser, self.noun, nargs="+")
        self._add_wait(parser, self.gone)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete each, and say how many could not be deleted."""
        self.proxy  # noqa: B018 -- an API that does not answer is one failure, not one for each
        references = getattr(parsed_args, self.noun)
        deleted = [self._try_to_delete(parsed_args, each) for each in references]
        late = sum(not self._is_gone(parsed_args, item) for item in deleted if item is not None)
        if failed := deleted.count(None):
            raise CommandError(f"{failed} of {len(references)} {self.noun}s failed to delete.")
        if late:
            raise CommandError(f"{late} of {len(references)} {self.noun}s are not gone yet.")

    def _try_to_delete(self, args: argparse.Namespace, reference: str) -> Any:
        try:
            item = self._find(args, reference)
            self._delete(item)
        except SDKException as error:
            self.log.error("Failed to delete %s '%s': %s", self.noun, reference, told(error))
            return None
        return item

    def _is_gone(self, args: argparse.Namespace, item: Any) -> bool:
        if (left := self._seconds_left(args)) is None:
            return True
        try:
            self.proxy.wait_for_deletion(item, left)
        except SDKException as error:
            what = f"The {self.noun} '{item.name}' is deleted, but after {args.timeout:g} s it"
            self.log.error("%s %s", what, told(error))
            return False
        return True
