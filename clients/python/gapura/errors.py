"""What the gateway and this client refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx


class GapuraError(Exception):
    """`code` is the gateway's (`RATE_LIMITED`, `DECRYPTION_FAILED`, … as its contract lists them), or one of this client's:

    * `KEY_UNAVAILABLE`: the gateway offers no key for this encryption and profile, or does not deliver keys.
    * `CALLER_UNKNOWN`: whose message it is can be read from no token; give `subject`.
    * `FOREIGN_ORIGIN`: the URL is not on the gateway's origin.
    * `MEMBER_INVALID`: members are to be sealed in a body that is no JSON.
    * `RESPONSE_NOT_SEALED`: a response in clear to a sealed request, and not the gateway's own problem.
    * `RESPONSE_INVALID`: a response that does not open: changed, cut short, of another request, under another key.
    """

    def __init__(
        self, code: str, message: str, response: httpx.Response | None = None, problem: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        #: The HTTP response this error stands for, its body read and as it came.
        self.response = response
        #: The gateway's problem (RFC 9457) where it is one. Nothing authenticates it: what it says is for people.
        self.problem = problem

    @property
    def status(self) -> int | None:
        return None if self.response is None else self.response.status_code

    @property
    def request_id(self) -> str | None:
        return None if self.response is None else self.response.headers.get("X-Request-Id")


def problem_in(response: httpx.Response) -> GapuraError | None:
    """The gateway's own problem in a response, None where it is none. A service's problems come sealed."""
    content_type = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if response.status_code < 400 or content_type != "application/problem+json":
        return None
    try:
        problem = json.loads(response.content)
    except ValueError:
        return None
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        return None
    if not str(problem.get("type")).startswith("urn:gapura:problem:"):
        return None
    return GapuraError(problem["code"], str(problem.get("detail") or problem.get("title")), response, problem)
