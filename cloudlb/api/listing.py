# SPDX-License-Identifier: Apache-2.0
"""Pages of lists, with the link to the next one."""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

from cloudlb.api.operation import Answer, Call
from cloudlb.db.pages import Page, Paging

T = TypeVar("T")


def paging(call: Call) -> Paging:
    """The page that the caller asks for, within the longest that is allowed."""
    longest = call.environment.max_limit
    return Paging(min(call.query.get("limit", longest), longest), call.query.get("marker"))


def respond(
    call: Call,
    key: str,
    page: Page[T],
    view: Callable[[T], dict[str, Any]],
    marker: Callable[[T], str],
) -> Answer:
    """The page as a response."""
    body: dict[str, Any] = {key: [view(item) for item in page.items]}
    if page.more:
        rest = {name: value for name, value in call.query.items() if name != "marker"}
        query = urlencode({**rest, "marker": marker(page.items[-1])})
        href = f"{call.url(call.path)}?{query}"
        body[f"{key}_links"] = [{"rel": "next", "href": href}]
    return Answer(200, body)
