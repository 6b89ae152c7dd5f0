"""Profile `hpke`: RFC 9180 in base mode, the response under a key exported from the request (as RFC 9458, section 4.4).

By hand from the primitives: the HPKE of `cryptography` has neither associated data nor exports.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from .codec import FRESH, Context, Entropy, Opened, Reader, b64url, context_bytes, expand, mac, unb64url
from .curves import PublicKey, agree, curve_of, raw

AES_256_GCM, CHACHA20_POLY1305 = 2, 3
_AEADS: dict[int, type[AESGCM] | type[ChaCha20Poly1305]] = {AES_256_GCM: AESGCM, CHACHA20_POLY1305: ChaCha20Poly1305}
_KEMS = {"P-256": 0x0010, "X25519": 0x0020}
_HKDF_SHA256 = b"\x00\x01"


@dataclass(frozen=True, repr=False)
class HpkeMessage:
    context: Context
    message: bytes
    _aead: int
    _enc: bytes
    _response_secret: bytes

    def open(self, message: bytes, status: int, part: str, content_type: str) -> Opened:
        read = Reader(message)
        if read.integer(1) != 1:
            raise ValueError("a response of another version")
        iat, own_id = read.integer(8), b64url(read.take(16))
        told = read.take(read.integer(1)).decode()
        prk = mac(self._enc + read.take(32), self._response_secret)
        own = replace(self.context, iat=iat, id=own_id, content_type=told, part=part)
        cipher = _AEADS[self._aead](expand(prk, b"key", 32))
        aad = context_bytes(own, status, self.context.id)
        return Opened(cipher.decrypt(expand(prk, b"nonce", 12), read.rest(), aad), told)


def seal(
    context: Context, recipient: PublicKey, plaintext: bytes, *, aead: int = AES_256_GCM, entropy: Entropy = FRESH
) -> HpkeMessage:
    kid, content_type = context.kid.encode(), context.content_type.encode()
    kem = _KEMS[curve_of(recipient)].to_bytes(2, "big")
    suite = kem + _HKDF_SHA256 + aead.to_bytes(2, "big")
    header = b"".join(
        (
            b"\x01", _length(kid), kid, suite, context.iat.to_bytes(8, "big"), unb64url(context.id),
            _length(content_type), content_type,
        )
    )  # fmt: skip
    ephemeral = entropy.key(curve_of(recipient))
    enc = raw(ephemeral.public_key())
    shared = _shared_secret(b"KEM" + kem, agree(ephemeral, recipient), enc + raw(recipient))
    key, nonce, exporter = _schedule(b"HPKE" + suite, shared, b"gapura hpke v1\x00" + header)
    sealed = _AEADS[aead](key).encrypt(nonce, plaintext, context_bytes(context))
    secret = _expand(b"HPKE" + suite, exporter, b"sec", b"gapura hpke response v1", 32)
    return HpkeMessage(context, header + enc + sealed, aead, enc, secret)


def _length(data: bytes) -> bytes:
    if len(data) > 255:
        raise ValueError("a kid or content type over 255 bytes")
    return bytes([len(data)])


# --- RFC 9180, sections 4 and 5 -----------------------------------------------------------------------------


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return mac(salt, b"HPKE-v1" + suite + label + ikm)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def _shared_secret(suite: bytes, dh: bytes, kem_context: bytes) -> bytes:
    return _expand(suite, _extract(suite, b"", b"eae_prk", dh), b"shared_secret", kem_context, 32)


def _schedule(suite: bytes, shared: bytes, info: bytes) -> tuple[bytes, bytes, bytes]:
    context = b"\x00" + _extract(suite, b"", b"psk_id_hash", b"") + _extract(suite, b"", b"info_hash", info)
    secret = _extract(suite, shared, b"secret", b"")
    key = _expand(suite, secret, b"key", context, 32)
    return key, _expand(suite, secret, b"base_nonce", context, 12), _expand(suite, secret, b"exp", context, 32)
