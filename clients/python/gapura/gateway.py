"""One gateway and one of its encryption entries: finds keys, seals, opens. It touches no socket: the transports do.

An exchange is a generator of the requests to send and the seconds to wait; it is given their responses.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from .codec import b64url
from .delivery import DeliveredKeys
from .errors import GapuraError, problem_in
from .options import Options, Profile
from .sealing import DEFAULT_PORTS, MEDIA_TYPES, KeysOfCall, Sealer, is_json
from .transport import AsyncTransport, Flow, Transport

_RENEWING = ("DECRYPTION_FAILED", "KEY_VERIFICATION_FAILED")
_UNOPENED = (ValueError, TypeError, KeyError, AttributeError, InvalidTag, InvalidUnwrap)


class Gateway:
    """Options:

    * `profile`: how messages are sealed; never another than this one.
    * `subject`, `token_id`: the caller where the gateway knows it by other claims than `sub` and `jti`; "" on public routes.
    * `members`: JSON pointers of the members that are sealed in place, where the entry has `members`; else whole bodies are.
    * `keys`: the gateway's key set, known beforehand: then none is fetched, and nobody between can put in another.
    * `session_key`: `jwe` only: under a session key (A256KW), also where the gateway offers a public key.
    * `chacha`: `hpke` only: ChaCha20-Poly1305 instead of AES-256-GCM.
    * `mac`: `cryptojs` only: the MAC header. False for gateways with `mac = "off"`; with `members` there is none.
    * `retries`: how often a request is sent again after a failed connection, 502, 503 or 504. POST and PATCH too: for services
      that honour `Idempotency-Key`, which all attempts share.
    * `authority`: what the gateway gets as `Host`, where something on the way changes it.
    * `credential_headers`: headers beside `Authorization` and `Cookie` by which the gateway knows the caller.
    """

    def __init__(
        self,
        url: str,
        *,
        encryption: str,
        profile: Profile = "hpke",
        subject: str | Callable[[], str] | None = None,
        token_id: str | Callable[[], str] = "",
        members: Sequence[str] = (),
        keys: Mapping[str, object] | None = None,
        session_key: bool = False,
        chacha: bool = False,
        mac: bool = True,
        retries: int = 0,
        authority: str | None = None,
        credential_headers: Sequence[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.url = httpx.URL(url)
        self.options = Options(
            encryption=encryption, profile=profile, subject=subject, token_id=token_id, members=tuple(members), keys=keys,
            session_key=session_key, chacha=chacha, mac=mac, retries=retries, authority=authority,
            credential_headers=tuple(credential_headers), now=now,
        )  # fmt: skip
        self._delivered = DeliveredKeys(self.options)
        self._sealer = Sealer(self.options, self._delivered)

    def transport(self, inner: httpx.BaseTransport | None = None) -> Transport:
        return Transport(self.exchange, inner)

    def async_transport(self, inner: httpx.AsyncBaseTransport | None = None) -> AsyncTransport:
        return AsyncTransport(self.exchange, inner)

    # --- the exchange ---------------------------------------------------------------------------------------

    def exchange(self, request: httpx.Request) -> Flow:
        """`request` has been read."""
        if _origin(request.url) != _origin(self.url):
            raise GapuraError("FOREIGN_ORIGIN", f"{request.url.host} is not {self.url.host}")
        headers = httpx.Headers(request.headers)
        if request.method in ("POST", "PATCH"):
            headers.setdefault("Idempotency-Key", b64url(os.urandom(16)))
        attempt, keys = 0, KeysOfCall()
        while True:
            try:
                return (yield from self._attempt(request, headers, keys))
            except (GapuraError, httpx.TransportError) as error:
                status = error.status if isinstance(error, GapuraError) else None
                if isinstance(error, GapuraError) and error.code in _RENEWING and status == 400 and keys.refusal is None:
                    # Keys may have changed since. Nothing that the gateway refuses so has reached the service. But a refusal
                    # may be forged: the message is sent again under another key only.
                    keys.refused, keys.refusal = keys.used, error
                    self._delivered.forget()
                    continue
                broken = isinstance(error, httpx.TransportError) or status in (502, 503, 504)
                if not broken or attempt >= self.options.retries:
                    raise
                pause = _pause(error, attempt)
            yield pause
            attempt += 1

    def _attempt(self, request: httpx.Request, own: httpx.Headers, keys: KeysOfCall) -> Flow:
        headers = httpx.Headers([pair for pair in own.multi_items() if pair[0] not in ("content-length", "transfer-encoding")])
        body, opener = yield from self._sealer.seal(request, headers, keys)
        sealed = httpx.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)
        response = yield sealed
        assert response is not None
        problem = problem_in(response)
        if problem is not None:
            raise problem
        if not response.content:
            return _rebuilt(response, None, b"")
        try:
            opened = opener(response)
        except _UNOPENED as error:
            raise self._not_opened(response, error) from error
        return _rebuilt(response, opened.content_type, opened.plaintext)

    def _not_opened(self, response: httpx.Response, error: Exception) -> GapuraError:
        profile, content_type = self.options.profile, response.headers.get("Content-Type", "")
        founding = profile == "cryptojs" and is_json(content_type)
        rfc8188 = response.headers.get("Content-Encoding") == "aes128gcm"
        if self.options.members or founding or rfc8188 or content_type == MEDIA_TYPES.get(profile):
            return GapuraError("RESPONSE_INVALID", f"the response does not open: {error}", response)
        return GapuraError("RESPONSE_NOT_SEALED", f"a {response.status_code} in clear to a sealed request", response)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or DEFAULT_PORTS.get(url.scheme)


def _pause(error: Exception, attempt: int) -> float:
    told = error.response.headers.get("Retry-After", "") if isinstance(error, GapuraError) and error.response else ""
    seconds = float(told) if told.isdecimal() else 0.2 * 2**attempt * random.uniform(0.5, 1.5)
    return min(seconds, 30.0)


def _rebuilt(response: httpx.Response, content_type: str | None, content: bytes) -> httpx.Response:
    """A response as it came, with another body."""
    dropped = ("content-encoding", "transfer-encoding", *(() if content_type is None else ("content-length", "content-type")))
    headers = [pair for pair in response.headers.multi_items() if pair[0] not in dropped]
    if content_type is not None:
        headers += [("content-type", content_type), ("content-length", str(len(content)))]
    stream = httpx.ByteStream(content)
    return httpx.Response(response.status_code, headers=headers, stream=stream, extensions=response.extensions)
