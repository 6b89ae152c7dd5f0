"""Keys as the gateway delivers them: its public keys for anybody, a session key or passphrase for one caller."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx
from cryptography.exceptions import InvalidTag

from .codec import unb64url
from .cryptojs import Passphrase
from .curves import CURVES, PrivateKey, PublicKey, from_jwk
from .errors import GapuraError, problem_in
from .jwe import open_compact

WELL_KNOWN = "/.well-known/gapura"
_DEFAULT_AGE = 300
_MAX_AGE = 86_400


@dataclass(frozen=True)
class OfferedKey:
    kid: str
    key: PublicKey


@dataclass(frozen=True)
class KeySet:
    document: Mapping[str, object]
    until: float

    def find(self, encryption: str, profile: str) -> OfferedKey | None:
        """The first key for this entry and profile that this client can agree with."""
        for jwk in self._keys():
            entries = jwk.get("encryption")
            fits = isinstance(entries, dict) and profile in _texts(entries.get(encryption))
            if fits and jwk.get("crv") in CURVES and isinstance(jwk.get("kid"), str):
                return OfferedKey(str(jwk["kid"]), from_jwk(jwk))
        return None

    def _keys(self) -> Iterator[Mapping[str, object]]:
        keys = self.document.get("keys")
        return (key for key in keys if isinstance(key, dict)) if isinstance(keys, list) else iter(())


def read_key_set(response: httpx.Response, now: float) -> KeySet:
    document = answer(response)
    if not isinstance(document.get("keys"), list):
        raise GapuraError("KEY_UNAVAILABLE", "the gateway's key set has no keys", response)
    told = re.search(r"\bmax-age=([0-9]{1,9})", response.headers.get("Cache-Control", ""))
    age = min(int(told[1]), _MAX_AGE) if told else _DEFAULT_AGE
    passed = response.headers.get("Age", "0")
    return KeySet(document, now + age - (int(passed) if passed.isdecimal() else 0))


@dataclass(frozen=True, repr=False)
class Session:
    """What a caller gets of its own."""

    encryption: str
    subject: str
    token_id: str
    kid: str
    expires: float
    session_key: bytes | None
    passphrase: Passphrase | None


def read_session(response: httpx.Response, private: PrivateKey) -> Session:
    """The answer to a request that carried the public part of `private`: only its asker can read what was sealed to it."""
    given = answer(response)
    own: Mapping[str, object] = {}
    if "sealed" in given:
        try:
            own = json.loads(open_compact(str(given["sealed"]), private)[1])
        except (ValueError, InvalidTag) as error:
            raise GapuraError("KEY_UNAVAILABLE", "the delivered key does not open", response) from error
    key, passphrase, expires = own.get("session_key"), own.get("passphrase"), given.get("expires")
    return Session(
        encryption=str(given.get("encryption")),
        subject=str(given.get("subject", "")),
        token_id=str(given.get("token_id") or ""),
        kid=str(given.get("kid") or ""),
        expires=expires if isinstance(expires, int | float) else float("inf"),
        session_key=unb64url(key) if isinstance(key, str) else None,
        passphrase=Passphrase(passphrase, str(given.get("key_hash"))) if isinstance(passphrase, str) else None,
    )


def answer(response: httpx.Response) -> dict[str, object]:
    problem = problem_in(response)
    if problem is not None:
        raise problem
    try:
        document = json.loads(response.content) if response.is_success else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise GapuraError("KEY_UNAVAILABLE", f"key delivery answered with {response.status_code}", response)
    return document


def caller_of(authorization: str | None) -> tuple[str, str] | None:
    """Subject and token id as a JWT names them. Nothing is verified: a false one only seals what does not open."""
    token = re.fullmatch(r"(?i:Bearer)\s+[\w-]+\.([\w-]+)\.[\w-]+", authorization or "", re.ASCII)
    if token is None:
        return None
    try:
        claims = json.loads(unb64url(token[1]))
    except (ValueError, binascii.Error):
        return None
    if not isinstance(claims, dict) or "sub" not in claims:
        return None
    return str(claims["sub"]), str(claims.get("jti") or "")


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
