"""Which key a message is sealed under, for whom, and in what form it goes: whole, as a header, or member by member."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import httpx

from . import aes128gcm, hpke, jwe, members
from .codec import Context, Opened, Place, Sealed, b64url, canonical_path, unb64url
from .cryptojs import MAC_HEADER, Mac, dumps
from .delivery import DeliveredKeys
from .errors import GapuraError
from .keys import OfferedKey, Session
from .options import Options
from .transport import Steps

Open = Callable[[httpx.Response], Opened]
ENVELOPE_HEADER = "X-Gapura-Envelope"
MEDIA_TYPES = {"hpke": "application/vnd.gapura.hpke", "jwe": "application/jose"}
DEFAULT_PORTS = {"http": 80, "https": 443}
_JSON = "application/json"


class KeysOfCall:
    """Which key a call uses, and under which it was refused."""

    used: object = None
    refused: object = None
    refusal: GapuraError | None = None

    def use(self, key: object) -> None:
        if self.refusal is not None and key == self.refused:
            raise self.refusal
        self.used = key


class Sealer:
    def __init__(self, options: Options, delivered: DeliveredKeys) -> None:
        self._options = options
        self._delivered = delivered
        self._aead = hpke.CHACHA20_POLY1305 if options.chacha else hpke.AES_256_GCM

    def seal(
        self, request: httpx.Request, headers: httpx.Headers, keys: KeysOfCall
    ) -> Steps[tuple[bytes | None, Open]]:
        """The body to send and what opens its response; the rest is written into `headers`."""
        plaintext = request.content
        if not plaintext:
            headers.pop("Content-Type", None)
        elif "Content-Type" not in headers:
            headers["Content-Type"] = _JSON
        content_type = headers.get("Content-Type", "")
        if self._options.members and plaintext and not is_json(content_type):
            raise GapuraError("MEMBER_INVALID", "members are sealed in JSON bodies only")
        if self._options.profile == "cryptojs":
            session = yield from self._delivered.session(request)
            keys.use(session.passphrase)
            return self._seal_founding(request, headers, session)
        session_or_none, key = None, None
        if self._options.profile == "hpke" or (self._options.profile == "jwe" and not self._options.session_key):
            key = yield from self._delivered.public_key(request)
        if key is None:
            session_or_none = yield from self._delivered.session(request)
            subject, token_id = session_or_none.subject, session_or_none.token_id
            keys.use(session_or_none.session_key)
        else:
            subject, token_id = yield from self._delivered.caller(request)
            keys.use((key.kid, subject, token_id))
        place = self._place(request, subject, token_id)
        if self._options.members:
            return self._seal_members(plaintext, headers, place, key, session_or_none)
        sealed = self._message(place, key, session_or_none, "", content_type, plaintext)

        def opener(response: httpx.Response) -> Opened:
            return sealed.open(response.content, response.status_code, "", response.headers.get("Content-Type", ""))

        if not plaintext:
            headers[ENVELOPE_HEADER] = f"{self._options.profile}={self._as_text(sealed.message)}"
            return None, opener
        if self._options.profile == "aes128gcm":
            headers["Content-Encoding"] = "aes128gcm"
        else:
            headers["Content-Type"] = MEDIA_TYPES[self._options.profile]
        return sealed.message, opener

    def _message(
        self, place: Place, key: OfferedKey | None, session: Session | None, part: str, content_type: str, plaintext: bytes
    ) -> Sealed:
        kid = key.kid if key else session.kid if session else ""
        iat, own_id = int(self._options.now() * 1000), b64url(os.urandom(16))
        of = {"profile": self._options.profile, "kid": kid, "id": own_id, "content_type": content_type, "part": part}
        context = Context(**vars(place), **of, iat=iat)
        if key is not None:
            if self._options.profile == "hpke":
                return hpke.seal(context, key.key, plaintext, aead=self._aead)
            return jwe.seal(context, key.key, plaintext)
        if session is None or session.session_key is None or not kid:
            raise GapuraError("KEY_UNAVAILABLE", f"no key for the profile {self._options.profile} was delivered")
        if self._options.profile == "jwe":
            return jwe.seal(context, session.session_key, plaintext)
        return aes128gcm.seal(context, session.session_key, plaintext)

    def _seal_members(
        self, plaintext: bytes, headers: httpx.Headers, place: Place, key: OfferedKey | None, session: Session | None
    ) -> tuple[bytes | None, Open]:
        messages: list[Sealed] = []

        def sealing(value: str, part: str) -> str:
            messages.append(self._message(place, key, session, part, _JSON, value.encode()))
            return json.dumps(self._as_text(messages[-1].message))

        def opener(response: httpx.Response) -> Opened:
            def opening(value: str, part: str) -> bytes:
                text = json.loads(value)
                message = text.encode() if self._options.profile == "jwe" else unb64url(text)
                if not messages:
                    raise ValueError("no key to open a member with")
                return messages[0].open(message, response.status_code, part, _JSON).plaintext

            return self._open_members(response, opening)

        body = None
        if plaintext:
            body = self._in_members(plaintext, sealing)
        else:
            messages.append(self._message(place, key, session, "", "", b""))
            headers[ENVELOPE_HEADER] = f"{self._options.profile}={self._as_text(messages[0].message)}"
        return body, opener

    def _in_members(self, document: bytes, by: Callable[[str, str], str]) -> bytes:
        try:
            return members.replace(document.decode(), self._options.members, by).encode()
        except ValueError as error:
            raise GapuraError("MEMBER_INVALID", str(error)) from error

    def _open_members(self, response: httpx.Response, opening: Callable[[str, str], bytes]) -> Opened:
        content_type = response.headers.get("Content-Type", "")
        if not is_json(content_type):
            return Opened(response.content, content_type)

        def opened(value: str, part: str) -> str:
            text = opening(value, part).decode()
            json.loads(text)
            return text

        return Opened(members.replace(response.content.decode(), self._options.members, opened).encode(), content_type)

    def _seal_founding(
        self, request: httpx.Request, headers: httpx.Headers, session: Session
    ) -> tuple[bytes | None, Open]:
        key = session.passphrase
        if key is None:
            raise GapuraError("KEY_UNAVAILABLE", "no passphrase was delivered")
        timestamp = int(self._options.now() * 1000)

        def envelope(value: bytes) -> bytes:
            return dumps(key.seal(session.subject, timestamp, value))

        body = None
        if request.content:
            headers["Content-Type"] = _JSON
            if self._options.members:
                body = self._in_members(request.content, lambda value, _: envelope(value.encode()).decode())
            else:
                body = envelope(request.content)
        mac = None
        if self._options.mac and not self._options.members:
            mac = Mac(key, self._place(request, session.subject, session.token_id), timestamp, body or b"")
            headers[MAC_HEADER] = mac.header

        def opener(response: httpx.Response) -> Opened:
            if mac is not None:
                mac.verify(response.headers.get(MAC_HEADER), response.content, response.status_code)
            if self._options.members:
                return self._open_members(response, lambda value, _: key.open(json.loads(value)))
            return Opened(key.open(json.loads(response.content)), _JSON)

        return body, opener

    def _as_text(self, message: bytes) -> str:
        return message.decode("ascii") if self._options.profile == "jwe" else b64url(message)

    def _place(self, request: httpx.Request, subject: str, token_id: str) -> Place:
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        authority = (self._options.authority or request.headers["Host"]).lower()
        default_port = f":{DEFAULT_PORTS[request.url.scheme]}"
        return Place(
            method=request.method,
            authority=authority.removesuffix(default_port),
            path=canonical_path(path),
            query=query,
            subject=subject,
            token_id=token_id,
        )


def is_json(content_type: str) -> bool:
    media_type = content_type.split(";")[0].strip().lower()
    return media_type == _JSON or (media_type.startswith("application/") and media_type.endswith("+json"))
