"""The transports: they send what an exchange asks for and give it the responses. `inner` does the sending."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import anyio
import httpx

#: Requests to send and seconds to wait; gives the response in the end.
Flow = Generator[httpx.Request | float, httpx.Response | None, httpx.Response]


class Transport(httpx.BaseTransport):
    def __init__(self, exchange: Callable[[httpx.Request], Flow], inner: httpx.BaseTransport | None = None) -> None:
        self._exchange = exchange
        self._inner = inner or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        flow = self._exchange(request)
        try:
            step = next(flow)
            while True:
                if isinstance(step, float):
                    time.sleep(step)
                    step = flow.send(None)
                    continue
                try:
                    response = self._inner.handle_request(step)
                    response.request = step
                    response.read()
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as done:
            return _response(done.value)

    def close(self) -> None:
        self._inner.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    def __init__(self, exchange: Callable[[httpx.Request], Flow], inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._exchange = exchange
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        flow = self._exchange(request)
        try:
            step = next(flow)
            while True:
                if isinstance(step, float):
                    await anyio.sleep(step)
                    step = flow.send(None)
                    continue
                try:
                    response = await self._inner.handle_async_request(step)
                    response.request = step
                    await response.aread()
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as done:
            return _response(done.value)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _response(value: object) -> httpx.Response:
    assert isinstance(value, httpx.Response)
    return value
