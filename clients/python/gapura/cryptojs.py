"""Profile `cryptojs`, the founding format, under the caller's own passphrase as the gateway delivers it.

With the MAC header a changed message is seen; without it the format cannot see that.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from .codec import FRESH, Entropy, Place, b64url, fields, hkdf, mac, unb64url

MAC_HEADER = "X-Gapura-Mac"


@dataclass(frozen=True, repr=False)
class Passphrase:
    text: str
    key_hash: str

    def seal(self, user_id: str, timestamp: int, plaintext: bytes, entropy: Entropy = FRESH) -> dict[str, object]:
        salt = entropy.bytes(8)
        padder = PKCS7(128).padder()
        cipher = self._cipher(salt).encryptor()
        sealed = cipher.update(padder.update(plaintext) + padder.finalize()) + cipher.finalize()
        data = base64.b64encode(b"Salted__" + salt + sealed).decode("ascii")
        return {"encryptedData": data, "keyHash": self.key_hash, "timestamp": timestamp, "userId": user_id}

    def open(self, answer: object) -> bytes:
        """Opens an envelope, bare or wrapped as `{"success":…,"data":…}`."""
        envelope = answer.get("data", answer) if isinstance(answer, dict) else None
        if not isinstance(envelope, dict) or not hmac.compare_digest(str(envelope.get("keyHash")), self.key_hash):
            raise ValueError("sealed under another key")
        data = base64.b64decode(str(envelope.get("encryptedData")), validate=True)
        if data[:8] != b"Salted__":
            raise ValueError("not salted")
        cipher = self._cipher(data[8:16]).decryptor()
        unpadder = PKCS7(128).unpadder()
        return unpadder.update(cipher.update(data[16:]) + cipher.finalize()) + unpadder.finalize()

    def _cipher(self, salt: bytes) -> Cipher[modes.CBC]:
        """EVP_BytesToKey with MD5 and one round."""
        material, block = b"", b""
        while len(material) < 48:
            block = hashlib.md5(block + self.text.encode() + salt, usedforsecurity=False).digest()
            material += block
        return Cipher(algorithms.AES(material[:32]), modes.CBC(material[32:]))


class Mac:
    """The MAC header of one request, and the judge of its response's."""

    def __init__(self, key: Passphrase, place: Place, ts: int, body: bytes, entropy: Entropy = FRESH) -> None:
        self._place = place
        self._kid = key.key_hash[:16]
        self._key = hkdf(key.text.encode(), b"gapura mac v1")
        self._n = b64url(entropy.bytes(16))
        own = self._mac("request", str(ts), self._n, body)
        self.header = f"v=1;kid={self._kid};ts={ts};n={self._n};mac={b64url(own)}"

    def verify(self, header: str | None, body: bytes, status: int) -> None:
        read = re.fullmatch(r"v=1;kid=([0-9a-f]{16});ts=([0-9]{1,16});n=([\w-]{22});mac=([\w-]{43})", header or "", re.ASCII)
        if read is None or read[1] != self._kid:
            raise ValueError(f"no {MAC_HEADER} of this key")
        expected = self._mac("response", read[2], read[3], body, str(status), self._n)
        if not hmac.compare_digest(unb64url(read[4]), expected):
            raise ValueError("the MAC is another")

    def _mac(self, direction: str, ts: str, n: str, body: bytes, *further: str) -> bytes:
        at = self._place
        place = (at.method, at.authority, at.path, at.query, at.subject)
        digest = hashlib.sha256(body).hexdigest()
        return mac(self._key, fields("gapura mac v1", direction, self._kid, *place, ts, n, digest, *further))


def dumps(envelope: object) -> bytes:
    return json.dumps(envelope, separators=(",", ":"), ensure_ascii=False).encode()
