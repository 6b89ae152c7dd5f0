"""Credentials for httpx. The transport reads the caller's id and token id from a JWT in `Authorization`."""

from __future__ import annotations

from collections.abc import Callable, Generator

import httpx


class BearerAuth(httpx.Auth):
    """`Authorization: Bearer …`. A callable is asked for each request: give one that renews the token in time."""

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._token if isinstance(self._token, str) else self._token()
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


class ApiKeyAuth(httpx.Auth):
    """`Authorization: ApiKey …`; without a scheme the key is the header's whole value."""

    def __init__(self, key: str, *, header: str = "Authorization", scheme: str = "ApiKey") -> None:
        self.header = header
        self._value = f"{scheme} {key}".lstrip()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[self.header] = self._value
        yield request
