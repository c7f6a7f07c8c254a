# SPDX-License-Identifier: Apache-2.0
"""Pieces of reStructuredText."""

import re
from collections.abc import Iterable, Sequence
from textwrap import indent


def escape(text: str) -> str:
    """Plain text that shall stay plain."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def literal(value: object) -> str:
    """A value as code; nothing for an empty one, which RST cannot write."""
    text = str(value)
    return f"``{text}``" if text.strip() == text and text else ""


def title(text: str, underline: str) -> str:
    """A section's title."""
    return f"{text}\n{underline * len(text)}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> str:
    """A list-table."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        f"   :widths: {' '.join(map(str, widths))}",
        "",
    ]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}".rstrip())
    return "\n".join(lines) + "\n"


def definition(term: str, paragraphs: Iterable[str]) -> str:
    """A term and what is said of it."""
    said = "\n\n".join(p for p in paragraphs if p)
    return f"{term}\n{indent(said, '    ')}\n"
