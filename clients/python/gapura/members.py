"""Members of a JSON text by JSON pointer (RFC 6901), replaced in place.

All other characters stay as they are, so that the spelling of numbers and the order of members survive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    pointer: str
    start: int
    end: int


# Of a text that json.loads has taken: a string, a bracket, a comma, a colon, or a bare word.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def replace(text: str, pointers: Sequence[str], by: Callable[[str, str], str]) -> str:
    """`by` is given the text of a value and its pointer, in the order of `pointers`."""
    found = [(span, by(text[span.start : span.end], span.pointer)) for span in locate(text, pointers)]
    # From the back, so that the places before stay true.
    for span, value in sorted(found, key=lambda each: each[0].start, reverse=True):
        text = text[: span.start] + value + text[span.end :]
    return text


def locate(text: str, pointers: Sequence[str]) -> list[Span]:
    """Where the values stand, as far as they are there. A member that stands twice on the way is refused."""
    json.loads(text, parse_constant=_refuse)
    tokens = list(_TOKEN.finditer(text))
    spans = []
    for pointer in pointers:
        at: int | None = 0
        for name in pointer.split("/")[1:]:
            at = None if at is None else _step(tokens, at, name.replace("~1", "/").replace("~0", "~"))
        if at is not None:
            spans.append(Span(pointer, tokens[at].start(), tokens[_skip(tokens, at) - 1].end()))
    return spans


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _skip(tokens: list[re.Match[str]], at: int) -> int:
    """The token after the value that begins at `at`."""
    depth = 0
    while True:
        depth += (tokens[at][0] in "{[") - (tokens[at][0] in "}]")
        at += 1
        if depth == 0:
            return at


def _step(tokens: list[re.Match[str]], at: int, name: str) -> int | None:
    """The token at which the member `name` of the value at `at` begins."""
    is_object = tokens[at][0] == "{"
    if not is_object and tokens[at][0] != "[":
        return None
    found, index, at = None, 0, at + 1
    while tokens[at][0] not in "}]":
        value = at + 2 if is_object else at
        if name == (json.loads(tokens[at][0]) if is_object else str(index)):
            if found is not None:
                raise ValueError("a member stands twice")
            found = value
        at = _skip(tokens, value)
        if tokens[at][0] == ",":
            at += 1
        index += 1
    return found
