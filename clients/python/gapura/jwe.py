"""Profile `jwe`: compact JWE (RFC 7516), ECDH-ES or A256KW, A256GCM.

The context stands in the protected header, which is authenticated as a whole; the response's header is held member by member
against what this request expects.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from .codec import FRESH, Context, Entropy, Opened, b64url, unb64url
from .curves import PrivateKey, PublicKey, agree, curve_of, from_jwk, to_jwk


@dataclass(frozen=True, repr=False)
class JweMessage:
    context: Context
    message: bytes
    _alg: str
    _key: PrivateKey | bytes  # what the response is sealed to

    def open(self, message: bytes, status: int, part: str, content_type: str) -> Opened:
        header, plaintext = open_compact(message.decode("ascii"), self._key)
        told, bound = header.pop("cty", ""), header.pop("ctx", None)
        header.pop("epk", None)
        if not isinstance(told, str) or not isinstance(bound, dict):
            raise ValueError("a response without context")
        iat, own_id = bound.get("iat"), bound.get("id")
        if type(iat) is not int or not isinstance(own_id, str):
            raise ValueError("a response without context")
        own = replace(self.context, iat=iat, id=own_id, part=part)
        expected = _ctx(own, "response") | {"status": status, "irt": self.context.id}
        if header != {"alg": self._alg, "enc": "A256GCM", "kid": self.context.kid} or not _same(bound, expected):
            raise ValueError("a message for another place")
        return Opened(plaintext, told)


def seal(context: Context, key: PublicKey | bytes, plaintext: bytes, *, entropy: Entropy = FRESH) -> JweMessage:
    """Under a public key of the gateway, or under the caller's session key."""
    alg = "A256KW" if isinstance(key, bytes) else "ECDH-ES"
    header: dict[str, object] = {"alg": alg, "enc": "A256GCM", "kid": context.kid}
    if context.content_type:
        header["cty"] = context.content_type
    reply: PrivateKey | bytes
    if isinstance(key, bytes):
        reply, cek = key, entropy.bytes(32)
        wrapped = aes_key_wrap(key, cek)
        header["ctx"] = _ctx(context, "request")
    else:
        ephemeral, reply = entropy.key(curve_of(key)), entropy.key(curve_of(key))
        cek, wrapped = _concat_kdf(agree(ephemeral, key)), b""
        ctx = {**_ctx(context, "request"), "rpk": to_jwk(reply.public_key())}
        header |= {"epk": to_jwk(ephemeral.public_key()), "ctx": ctx}
    protected = b64url(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    iv = entropy.bytes(12)
    sealed = AESGCM(cek).encrypt(iv, plaintext, protected.encode())
    parts = (protected, *map(b64url, (wrapped, iv, sealed[:-16], sealed[-16:])))
    return JweMessage(context, ".".join(parts).encode(), alg, reply)


def open_compact(token: str, key: PrivateKey | bytes) -> tuple[dict[str, object], bytes]:
    """Header and plaintext, under a private key (ECDH-ES) or a key (A256KW). What the header says else, the caller judges."""
    parts = token.split(".")
    if len(parts) != 5:
        raise ValueError("not a compact JWE")
    head, encrypted_key, iv, sealed, tag = map(unb64url, parts)
    header = json.loads(head)
    alg = "A256KW" if isinstance(key, bytes) else "ECDH-ES"
    if not isinstance(header, dict) or (header.get("alg"), header.get("enc")) != (alg, "A256GCM"):
        raise ValueError("a JWE of another kind")
    if header.keys() & {"crit", "zip", "apu", "apv"} or len(tag) != 16 or len(iv) != 12:
        raise ValueError("a JWE of another kind")
    if isinstance(key, bytes):
        cek = aes_key_unwrap(key, encrypted_key)
    else:
        if encrypted_key:
            raise ValueError("a JWE of another kind")
        cek = _concat_kdf(agree(key, from_jwk(header.get("epk"))))
    if len(cek) != 32:
        raise ValueError("a key of another length")
    return header, AESGCM(cek).decrypt(iv, sealed + tag, parts[0].encode())


def _ctx(c: Context, direction: str) -> dict[str, object]:
    place = {"method": c.method, "authority": c.authority, "path": c.path, "query": c.query}
    caller = {"sub": c.subject, "tid": c.token_id}
    return {"v": 1, "dir": direction, **place, **caller, "iat": c.iat, "id": c.id, "part": c.part}


def _same(given: dict[str, object], expected: dict[str, object]) -> bool:
    # In Python 1 == True == 1.0; here they are three values.
    return given == expected and all(type(given[name]) is type(value) for name, value in expected.items())


def _concat_kdf(z: bytes) -> bytes:
    """RFC 7518, section 4.6.2, for A256GCM and without party info: one block."""
    return hashlib.sha256(b"\0\0\0\1" + z + b"\0\0\0\7A256GCM" + bytes(8) + b"\0\0\1\0").digest()
