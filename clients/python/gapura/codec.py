"""Bytes and texts: what every envelope is written with, and what it is bound to."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from .curves import PrivateKey, generate


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    """Strict: without padding, and in the one spelling that these bytes have."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64url(data) != text:
        raise ValueError("not base64url")
    return data


def fields(*texts: str) -> bytes:
    """Each with its length before it, so that no two lists give the same bytes."""
    encoded = (text.encode() for text in texts)
    return b"".join(len(data).to_bytes(4, "big") + data for data in encoded)


class Reader:
    """Reads from the front of a message; raises where it ends early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) != length:
            raise ValueError("the message is cut short")
        self._at += length
        return taken

    def integer(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def rest(self) -> bytes:
        return self._data[self._at :]


# --- keys from keys -----------------------------------------------------------------------------------------


def mac(key: bytes, data: bytes) -> bytes:
    state = hmac.HMAC(key, hashes.SHA256())
    state.update(data)
    return state.finalize()


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA256(), length, info).derive(prk)


def hkdf(ikm: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, b"", info).derive(ikm)


# --- what a message is bound to -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a message goes and whose it is."""

    method: str
    authority: str
    path: str
    query: str
    subject: str
    token_id: str


@dataclass(frozen=True, kw_only=True)
class Context(Place):
    profile: str
    kid: str
    iat: int  # milliseconds since 1970
    id: str
    content_type: str
    part: str = ""  # a member's JSON pointer; empty for a whole body


def context_bytes(c: Context, status: int | None = None, request_id: str = "") -> bytes:
    """The request's; with `status` a response's to the request of `request_id`."""
    place = (c.method, c.authority, c.path, c.query, c.subject, c.token_id)
    common = (c.profile, c.kid, *place, str(c.iat), c.id, c.content_type, c.part)
    if status is None:
        return fields("gapura context v1", "request", *common)
    return fields("gapura context v1", "response", *common, str(status), request_id)


def canonical_path(path: str) -> str:
    """As the gateway reads it: characters that need no encoding are bare, other encodings in capitals."""

    def spelled(code: re.Match[str]) -> str:
        character = chr(int(code[0][1:], 16))
        return character if re.fullmatch(r"[A-Za-z0-9_.~-]", character) else code[0].upper()

    return re.sub(r"%[0-9A-Fa-f]{2}", spelled, path)


@dataclass(frozen=True)
class Opened:
    plaintext: bytes
    content_type: str


class Sealed(Protocol):
    """A sealed request, or a sealed member of one, and what opens the responses to it."""

    @property
    def message(self) -> bytes: ...

    def open(self, message: bytes, status: int, part: str, content_type: str) -> Opened:
        """Raises where anything is not as it was sealed. `content_type` is asked only where the message does not tell it."""


class Entropy:
    """Where random bytes and ephemeral keys come from. The tests pin both to hold messages byte for byte."""

    def bytes(self, length: int) -> bytes:
        return os.urandom(length)

    def key(self, curve: str) -> PrivateKey:
        return generate(curve)


FRESH = Entropy()
