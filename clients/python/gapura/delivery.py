"""The keys that this gateway has delivered, and for whom they are. Asks for those that are missing or too old."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import httpx

from .codec import canonical_path
from .curves import generate, to_jwk
from .errors import GapuraError
from .keys import WELL_KNOWN, KeySet, OfferedKey, Session, caller_of, read_key_set, read_session
from .options import Options
from .transport import Steps


class DeliveredKeys:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._credentials = ("Authorization", "Cookie", *options.credential_headers)
        self._pinned = None if options.keys is None else KeySet(options.keys, float("inf"))
        self._key_set: KeySet | None = None
        self._past_caches = False  # the next look is at the gateway itself
        self._session: tuple[bytes, Session] | None = None  # of which credentials

    def forget(self) -> None:
        """Keys are fetched anew for the next message."""
        self._session = None
        self._forget_keys()

    def public_key(self, request: httpx.Request) -> Steps[OfferedKey | None]:
        again = False
        while True:
            held = self._pinned or self._key_set
            if held is None or held.until <= self._options.now():
                headers = {"Cache-Control": "no-cache"} if self._past_caches else {}
                response = yield self._ask(request, "GET", "/keys", headers)
                assert response is not None
                self._key_set = held = read_key_set(response, self._options.now())
                self._past_caches = False
            key = held.find(self._options.encryption, self._options.profile)
            # Without one `jwe` takes a session key; but not where keys were given so that nobody between can put in another.
            if key is not None or (self._options.profile == "jwe" and self._pinned is None):
                return key
            if again or self._pinned is not None:
                text = f"there is no key for {self._options.encryption} and the profile {self._options.profile}"
                raise GapuraError("KEY_UNAVAILABLE", text)
            again = True
            self._forget_keys()

    def _forget_keys(self) -> None:
        self._key_set, self._past_caches = None, True

    def caller(self, request: httpx.Request) -> Steps[tuple[str, str]]:
        if self._options.subject is not None:
            return _said(self._options.subject), _said(self._options.token_id)
        named = caller_of(request.headers.get("Authorization"))
        if named is not None:
            return named
        try:
            session = yield from self.session(request)
        except GapuraError as error:
            if error.problem is not None and error.code != "ROUTE_NOT_FOUND":
                raise
            text = "no JWT names the caller and the gateway does not say: give `subject`"
            raise GapuraError("CALLER_UNKNOWN", text) from error
        return session.subject, session.token_id

    def session(self, request: httpx.Request) -> Steps[Session]:
        """The caller's own key, kept until shortly before it expires or other credentials are used."""
        credentials = {name: request.headers[name] for name in self._credentials if name in request.headers}
        of = hashlib.sha256(repr(sorted(credentials.items())).encode()).digest()
        if self._session is not None and self._session[0] == of and self._session[1].expires > self._options.now() + 30:
            return self._session[1]
        path = request.url.raw_path.decode("ascii").partition("?")[0]
        where = httpx.QueryParams({"path": canonical_path(path), "method": request.method})
        private = generate("P-256")
        response = yield self._ask(
            request, "POST", f"/session-key?{where}", credentials, json={"public_key": to_jwk(private.public_key())}
        )
        assert response is not None
        session = read_session(response, private)
        if session.encryption != self._options.encryption:
            text = f"{request.method} {path} is encrypted by {session.encryption}, not by {self._options.encryption}"
            raise GapuraError("KEY_UNAVAILABLE", text)
        self._session = (of, session)
        return session

    def _ask(
        self, request: httpx.Request, method: str, path: str, headers: Mapping[str, str], json: object = None
    ) -> httpx.Request:
        url = request.url.copy_with(raw_path=f"{WELL_KNOWN}{path}".encode("ascii"))
        own = {"Host": request.headers["Host"], "Accept": "application/json", **headers}
        return httpx.Request(method, url, headers=own, json=json, extensions=request.extensions)


def _said(value: str | Callable[[], str]) -> str:
    return value if isinstance(value, str) else value()
