# SPDX-License-Identifier: Apache-2.0
"""What only a host's agent knows, said when somebody asks."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar
from uuid import UUID

from cloudlb.agents.stats import Stats
from cloudlb.engines.base import Engine
from cloudlb.model import plain
from cloudlb.model.errors import InvalidRequest
from cloudlb.model.load import Load
from cloudlb.model.network import Address
from cloudlb.model.pool import Port

T = TypeVar("T")
MOST_FLOWS = 1000


@dataclass(frozen=True, slots=True)
class _OfPool:
    pool_id: UUID


@dataclass(frozen=True, slots=True)
class _Flows:
    pool_id: UUID
    limit: int = MOST_FLOWS


@dataclass(frozen=True, slots=True)
class _Explain:
    pool_id: UUID
    client: Address
    client_port: int
    port: Port


class Questions:
    """Answers of one host in plain data; ``engine`` is used under ``lock``.

    ``load`` is that of the host, None while no pool goes by it.
    """

    def __init__(
        self,
        engine: Engine,
        lock: threading.RLock,
        load: Callable[[], Load | None] = lambda: None,
    ) -> None:
        self._engine, self._lock, self._load = engine, lock, load
        self._stats = Stats(engine, lock)
        self._answers: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "stats": lambda args: self._counted(_read(_OfPool, args).pool_id),
            "events": lambda _args: self._locked(engine.events),
            "flows": lambda args: self._flows(_read(_Flows, args)),
            "explain": lambda args: self._explain(_read(_Explain, args)),
        }

    def answer(self, question: str, args: dict[str, Any]) -> Any:
        """InvalidRequest for a question that is not known, or without what it needs."""
        if question not in self._answers:
            known = ", ".join(self._answers)
            raise InvalidRequest(f"An agent does not answer {question!r}; it answers {known}.")
        return self._answers[question](args)

    def _counted(self, pool_id: UUID) -> Any:
        return self._stats.of_pool(pool_id) | {"load": plain.encode(self._load())}

    def _flows(self, asked: _Flows) -> Any:
        limit = min(asked.limit, MOST_FLOWS)
        return plain.encode(self._locked(lambda: self._engine.flows(asked.pool_id, limit)))

    def _explain(self, asked: _Explain) -> Any:
        client = asked.client, asked.client_port
        return plain.encode(
            self._locked(lambda: self._engine.explain(asked.pool_id, *client, asked.port))
        )

    def _locked(self, ask: Callable[[], T]) -> T:
        with self._lock:
            return ask()


def _read(kind: type[T], args: dict[str, Any]) -> T:
    try:
        return plain.decode(kind, args)
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        needed = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]
        raise InvalidRequest(f"The question needs {needed}: {error}.") from error
