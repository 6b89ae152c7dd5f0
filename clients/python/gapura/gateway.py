"""One gateway and one of its encryption entries: finds keys, seals, opens. It touches no socket: the transports do.

An exchange is a generator of the requests to send and the seconds to wait; it is given their responses.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Literal

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from . import aes128gcm, hpke, jwe, members
from .codec import Context, Opened, Place, Sealed, b64url, canonical_path, unb64url
from .cryptojs import MAC_HEADER, Mac, dumps
from .curves import generate, to_jwk
from .errors import GapuraError, problem_in
from .keys import WELL_KNOWN, KeySet, OfferedKey, Session, caller_of, read_key_set, read_session
from .transport import AsyncTransport, Flow, Transport

Profile = Literal["hpke", "jwe", "aes128gcm", "cryptojs"]
_Asking = Generator[httpx.Request | float, httpx.Response | None, Session]
_Open = Callable[[httpx.Response], Opened]
_ENVELOPE_HEADER = "X-Gapura-Envelope"
_MEDIA_TYPES = {"hpke": "application/vnd.gapura.hpke", "jwe": "application/jose"}
_JSON = "application/json"
_RENEWING = ("DECRYPTION_FAILED", "KEY_VERIFICATION_FAILED")
_UNOPENED = (ValueError, TypeError, KeyError, AttributeError, InvalidTag, InvalidUnwrap)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class _KeysOfCall:
    """Which key a call uses, and under which it was refused."""

    used: object = None
    refused: object = None
    refusal: GapuraError | None = None

    def use(self, key: object) -> None:
        if self.refusal is not None and key == self.refused:
            raise self.refusal
        self.used = key


class Gateway:
    """Options:

    * `profile`: how messages are sealed; never another than this one.
    * `subject`, `token_id`: the caller where the gateway knows it by other claims than `sub` and `jti`; "" on public routes.
    * `members`: JSON pointers of the members that are sealed in place, where the entry has `members`; else whole bodies are.
    * `keys`: the gateway's key set, known beforehand: then none is fetched, and nobody between can put in another.
    * `session_key`: `jwe` only: under a session key (A256KW), also where the gateway offers a public key.
    * `chacha`: `hpke` only: ChaCha20-Poly1305 instead of AES-256-GCM.
    * `mac`: `cryptojs` only: the MAC header. False for gateways with `mac = "off"`.
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
        self.encryption = encryption
        self.profile = profile
        self.retries = retries
        self._subject, self._token_id = subject, token_id
        self._members = tuple(members)
        self._pinned = None if keys is None else KeySet(keys, float("inf"))
        self._by_session = session_key
        self._aead = hpke.CHACHA20_POLY1305 if chacha else hpke.AES_256_GCM
        self._mac = mac
        self._authority = authority
        self._credentials = ("Authorization", "Cookie", *credential_headers)
        self._now = now
        self._key_set: KeySet | None = None
        self._past_caches = False  # the next look is at the gateway itself
        self._session: tuple[bytes, Session] | None = None  # of which credentials

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
        attempt, keys = 0, _KeysOfCall()
        while True:
            try:
                return (yield from self._attempt(request, headers, keys))
            except (GapuraError, httpx.TransportError) as error:
                status = error.status if isinstance(error, GapuraError) else None
                if isinstance(error, GapuraError) and error.code in _RENEWING and status == 400 and keys.refusal is None:
                    # Keys may have changed since. Nothing that the gateway refuses so has reached the service. But a refusal
                    # may be forged: the message is sent again under another key only.
                    keys.refused, keys.refusal, self._session = keys.used, error, None
                    self._forget_keys()
                    continue
                broken = isinstance(error, httpx.TransportError) or status in (502, 503, 504)
                if not broken or attempt >= self.retries:
                    raise
                pause = _pause(error, attempt)
            yield pause
            attempt += 1

    def _attempt(self, request: httpx.Request, own: httpx.Headers, keys: _KeysOfCall) -> Flow:
        headers = httpx.Headers([pair for pair in own.multi_items() if pair[0] not in ("content-length", "transfer-encoding")])
        body, opener = yield from self._seal(request, headers, keys)
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
        content_type = response.headers.get("Content-Type", "")
        founding = self.profile == "cryptojs" and _is_json(content_type)
        rfc8188 = response.headers.get("Content-Encoding") == "aes128gcm"
        if self._members or founding or rfc8188 or content_type == _MEDIA_TYPES.get(self.profile):
            return GapuraError("RESPONSE_INVALID", f"the response does not open: {error}", response)
        return GapuraError("RESPONSE_NOT_SEALED", f"a {response.status_code} in clear to a sealed request", response)

    # --- sealing --------------------------------------------------------------------------------------------

    def _seal(
        self, request: httpx.Request, headers: httpx.Headers, keys: _KeysOfCall
    ) -> Generator[httpx.Request | float, httpx.Response | None, tuple[bytes | None, _Open]]:
        """The body to send and what opens its response; the rest is written into `headers`."""
        plaintext = request.content
        if not plaintext:
            headers.pop("Content-Type", None)
        elif "Content-Type" not in headers:
            headers["Content-Type"] = _JSON
        content_type = headers.get("Content-Type", "")
        if self._members and plaintext and not _is_json(content_type):
            raise GapuraError("MEMBER_INVALID", "members are sealed in JSON bodies only")
        if self.profile == "cryptojs":
            session = yield from self._own_session(request)
            keys.use(session.passphrase)
            return self._seal_founding(request, headers, session)
        session_or_none, key = None, None
        if self.profile == "hpke" or (self.profile == "jwe" and not self._by_session):
            key = yield from self._public_key(request)
        if key is None:
            session_or_none = yield from self._own_session(request)
            subject, token_id = session_or_none.subject, session_or_none.token_id
            keys.use(session_or_none.session_key)
        else:
            subject, token_id = yield from self._caller(request)
            keys.use((key.kid, subject, token_id))
        place = self._place(request, subject, token_id)
        if self._members:
            return self._seal_members(plaintext, headers, place, key, session_or_none)
        sealed = self._message(place, key, session_or_none, "", content_type, plaintext)

        def opener(response: httpx.Response) -> Opened:
            return sealed.open(response.content, response.status_code, "", response.headers.get("Content-Type", ""))

        if not plaintext:
            headers[_ENVELOPE_HEADER] = f"{self.profile}={self._as_text(sealed.message)}"
            return None, opener
        if self.profile == "aes128gcm":
            headers["Content-Encoding"] = "aes128gcm"
        else:
            headers["Content-Type"] = _MEDIA_TYPES[self.profile]
        return sealed.message, opener

    def _message(
        self, place: Place, key: OfferedKey | None, session: Session | None, part: str, content_type: str, plaintext: bytes
    ) -> Sealed:
        kid = key.kid if key else session.kid if session else ""
        iat, own_id = int(self._now() * 1000), b64url(os.urandom(16))
        of = {"profile": self.profile, "kid": kid, "id": own_id, "content_type": content_type, "part": part}
        context = Context(**vars(place), **of, iat=iat)
        if key is not None:
            if self.profile == "hpke":
                return hpke.seal(context, key.key, plaintext, aead=self._aead)
            return jwe.seal(context, key.key, plaintext)
        if session is None or session.session_key is None or not kid:
            raise GapuraError("KEY_UNAVAILABLE", f"no key for the profile {self.profile} was delivered")
        if self.profile == "jwe":
            return jwe.seal(context, session.session_key, plaintext)
        return aes128gcm.seal(context, session.session_key, plaintext)

    def _seal_members(
        self, plaintext: bytes, headers: httpx.Headers, place: Place, key: OfferedKey | None, session: Session | None
    ) -> tuple[bytes | None, _Open]:
        messages: list[Sealed] = []

        def sealing(value: str, part: str) -> str:
            messages.append(self._message(place, key, session, part, _JSON, value.encode()))
            return json.dumps(self._as_text(messages[-1].message))

        def opener(response: httpx.Response) -> Opened:
            def opening(value: str, part: str) -> bytes:
                text = json.loads(value)
                message = text.encode() if self.profile == "jwe" else unb64url(text)
                if not messages:
                    raise ValueError("no key to open a member with")
                return messages[0].open(message, response.status_code, part, _JSON).plaintext

            return self._open_members(response, opening)

        body = None
        if plaintext:
            body = self._in_members(plaintext, sealing)
        else:
            messages.append(self._message(place, key, session, "", "", b""))
            headers[_ENVELOPE_HEADER] = f"{self.profile}={self._as_text(messages[0].message)}"
        return body, opener

    def _in_members(self, document: bytes, by: Callable[[str, str], str]) -> bytes:
        try:
            return members.replace(document.decode(), self._members, by).encode()
        except ValueError as error:
            raise GapuraError("MEMBER_INVALID", str(error)) from error

    def _open_members(self, response: httpx.Response, opening: Callable[[str, str], bytes]) -> Opened:
        content_type = response.headers.get("Content-Type", "")
        if not _is_json(content_type):
            return Opened(response.content, content_type)

        def opened(value: str, part: str) -> str:
            text = opening(value, part).decode()
            json.loads(text)
            return text

        return Opened(members.replace(response.content.decode(), self._members, opened).encode(), content_type)

    def _seal_founding(
        self, request: httpx.Request, headers: httpx.Headers, session: Session
    ) -> tuple[bytes | None, _Open]:
        key = session.passphrase
        if key is None:
            raise GapuraError("KEY_UNAVAILABLE", "no passphrase was delivered")
        timestamp = int(self._now() * 1000)

        def envelope(value: bytes) -> bytes:
            return dumps(key.seal(session.subject, timestamp, value))

        body = None
        if request.content:
            headers["Content-Type"] = _JSON
            if self._members:
                body = self._in_members(request.content, lambda value, _: envelope(value.encode()).decode())
            else:
                body = envelope(request.content)
        mac = None
        if self._mac:
            mac = Mac(key, self._place(request, session.subject, session.token_id), timestamp, body or b"")
            headers[MAC_HEADER] = mac.header

        def opener(response: httpx.Response) -> Opened:
            if mac is not None:
                mac.verify(response.headers.get(MAC_HEADER), response.content, response.status_code)
            if self._members:
                return self._open_members(response, lambda value, _: key.open(json.loads(value)))
            return Opened(key.open(json.loads(response.content)), _JSON)

        return body, opener

    def _as_text(self, message: bytes) -> str:
        return message.decode("ascii") if self.profile == "jwe" else b64url(message)

    def _place(self, request: httpx.Request, subject: str, token_id: str) -> Place:
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        authority = (self._authority or request.headers["Host"]).lower()
        default_port = f":{_DEFAULT_PORTS[request.url.scheme]}"
        return Place(
            method=request.method,
            authority=authority.removesuffix(default_port),
            path=canonical_path(path),
            query=query,
            subject=subject,
            token_id=token_id,
        )

    # --- keys and the caller --------------------------------------------------------------------------------

    def _public_key(
        self, request: httpx.Request
    ) -> Generator[httpx.Request | float, httpx.Response | None, OfferedKey | None]:
        again = False
        while True:
            held = self._pinned or self._key_set
            if held is None or held.until <= self._now():
                response = yield self._ask(request, "GET", "/keys", {"Cache-Control": "no-cache"} if self._past_caches else {})
                assert response is not None
                self._key_set = held = read_key_set(response, self._now())
                self._past_caches = False
            key = held.find(self.encryption, self.profile)
            if key is not None or self.profile == "jwe":
                return key
            if again or self._pinned is not None:
                raise GapuraError("KEY_UNAVAILABLE", f"the gateway offers no key for {self.encryption} and the profile hpke")
            again = True
            self._forget_keys()

    def _forget_keys(self) -> None:
        self._key_set, self._past_caches = None, True

    def _caller(
        self, request: httpx.Request
    ) -> Generator[httpx.Request | float, httpx.Response | None, tuple[str, str]]:
        if self._subject is not None:
            return _said(self._subject), _said(self._token_id)
        named = caller_of(request.headers.get("Authorization"))
        if named is not None:
            return named
        try:
            session = yield from self._own_session(request)
        except GapuraError as error:
            if error.problem is not None and error.code != "ROUTE_NOT_FOUND":
                raise
            text = "no JWT names the caller and the gateway does not say: give `subject`"
            raise GapuraError("CALLER_UNKNOWN", text) from error
        return session.subject, session.token_id

    def _own_session(self, request: httpx.Request) -> _Asking:
        """The caller's own key, kept until shortly before it expires or other credentials are used."""
        credentials = {name: request.headers[name] for name in self._credentials if name in request.headers}
        of = hashlib.sha256(repr(sorted(credentials.items())).encode()).digest()
        if self._session is not None and self._session[0] == of and self._session[1].expires > self._now() + 30:
            return self._session[1]
        path = request.url.raw_path.decode("ascii").partition("?")[0]
        where = httpx.QueryParams({"path": canonical_path(path), "method": request.method})
        private = generate("P-256")
        response = yield self._ask(
            request, "POST", f"/session-key?{where}", credentials, json={"public_key": to_jwk(private.public_key())}
        )
        assert response is not None
        session = read_session(response, private)
        if session.encryption != self.encryption:
            text = f"{request.method} {path} is encrypted by {session.encryption}, not by {self.encryption}"
            raise GapuraError("KEY_UNAVAILABLE", text)
        self._session = (of, session)
        return session

    def _ask(
        self, request: httpx.Request, method: str, path: str, headers: Mapping[str, str], json: object = None
    ) -> httpx.Request:
        url = request.url.copy_with(raw_path=f"{WELL_KNOWN}{path}".encode("ascii"))
        own = {"Host": request.headers["Host"], "Accept": _JSON, **headers}
        return httpx.Request(method, url, headers=own, json=json, extensions=request.extensions)


def _said(value: str | Callable[[], str]) -> str:
    return value if isinstance(value, str) else value()


def _is_json(content_type: str) -> bool:
    media_type = content_type.split(";")[0].strip().lower()
    return media_type == _JSON or (media_type.startswith("application/") and media_type.endswith("+json"))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _DEFAULT_PORTS.get(url.scheme)


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
