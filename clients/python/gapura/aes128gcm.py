"""Profile `aes128gcm`: RFC 8188 under a key derived from the session key and the context. Bodies are held whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .codec import FRESH, Context, Entropy, Opened, Reader, context_bytes, expand, hkdf, mac

RECORD_SIZE = 65536
_OVERHEAD = 17  # delimiter and tag


@dataclass(frozen=True, repr=False)
class Aes128gcmMessage:
    context: Context
    message: bytes
    _session_key: bytes

    def open(self, message: bytes, status: int, part: str, content_type: str) -> Opened:
        read = Reader(message)
        salt, size = read.take(16), read.integer(4)
        keyid = re.fullmatch(r"([^~]+)~([0-9]{1,16})~([^~]+)", read.take(read.integer(1)).decode())
        if size <= _OVERHEAD or keyid is None or keyid[1] != self.context.kid:
            raise ValueError("a message under another key")
        own = replace(self.context, iat=int(keyid[2]), id=keyid[3], content_type=content_type, part=part)
        records = _Records(self._session_key, context_bytes(own, status, self.context.id), salt)
        return Opened(records.open(read.rest(), size), content_type)


def seal(
    context: Context, session_key: bytes, plaintext: bytes, *, record_size: int = RECORD_SIZE, entropy: Entropy = FRESH
) -> Aes128gcmMessage:
    keyid = f"{context.kid}~{context.iat}~{context.id}".encode()
    salt = entropy.bytes(16)
    records = _Records(session_key, context_bytes(context), salt)
    head = salt + record_size.to_bytes(4, "big") + bytes([len(keyid)]) + keyid
    return Aes128gcmMessage(context, head + records.seal(plaintext, record_size), session_key)


class _Records:
    def __init__(self, session_key: bytes, context: bytes, salt: bytes) -> None:
        prk = mac(salt, hkdf(session_key, b"gapura aes128gcm v1\x00" + context))
        self._cipher = AESGCM(expand(prk, b"Content-Encoding: aes128gcm\x00", 16))
        self._nonce = int.from_bytes(expand(prk, b"Content-Encoding: nonce\x00", 12), "big")

    def _at(self, number: int) -> bytes:
        return (self._nonce ^ number).to_bytes(12, "big")

    def seal(self, plaintext: bytes, size: int) -> bytes:
        step = size - _OVERHEAD
        pieces = [plaintext[at : at + step] for at in range(0, len(plaintext), step)] or [b""]
        ends = [b"\x01"] * (len(pieces) - 1) + [b"\x02"]
        sealed = (self._cipher.encrypt(self._at(n), piece + end, None) for n, (piece, end) in enumerate(zip(pieces, ends)))
        return b"".join(sealed)

    def open(self, sealed: bytes, size: int) -> bytes:
        """A message that ends without a record that says it is the last was cut off."""
        out, last = [], False
        for number, at in enumerate(range(0, len(sealed), size)):
            if last:
                raise ValueError("bytes after the last record")
            record = self._cipher.decrypt(self._at(number), sealed[at : at + size], None).rstrip(b"\x00")
            if record[-1:] not in (b"\x01", b"\x02"):
                raise ValueError("a record without delimiter")
            last = record[-1:] == b"\x02"
            out.append(record[:-1])
        if not last:
            raise ValueError("the message is cut short")
        return b"".join(out)
