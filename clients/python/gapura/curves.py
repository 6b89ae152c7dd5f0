"""Key agreement over P-256 and X25519, with keys as JWK on the outside."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | x25519.X25519PublicKey
CURVES = ("P-256", "X25519")


def generate(curve: str) -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1()) if curve == "P-256" else x25519.X25519PrivateKey.generate()


def curve_of(key: PublicKey) -> str:
    return "P-256" if isinstance(key, ec.EllipticCurvePublicKey) else "X25519"


def agree(private: PrivateKey, public: PublicKey) -> bytes:
    """Raises for keys of two curves, and for an X25519 result of zeros."""
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(public, ec.EllipticCurvePublicKey):
        return private.exchange(ec.ECDH(), public)
    if isinstance(private, x25519.X25519PrivateKey) and isinstance(public, x25519.X25519PublicKey):
        return private.exchange(public)
    raise ValueError("keys of two curves")


def raw(key: PublicKey) -> bytes:
    """As RFC 9180 has it: the uncompressed point, or the 32 bytes."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return key.public_bytes_raw()


def to_jwk(key: PublicKey) -> dict[str, str]:
    data = raw(key)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"kty": "EC", "crv": "P-256", "x": _text(data[1:33]), "y": _text(data[33:])}
    return {"kty": "OKP", "crv": "X25519", "x": _text(data)}


def from_jwk(jwk: object) -> PublicKey:
    """The public part, and nothing else of it. A point off the curve is refused."""
    if isinstance(jwk, Mapping):
        kind = (jwk.get("kty"), jwk.get("crv"))
        if kind == ("EC", "P-256"):
            point = b"\x04" + _coordinate(jwk.get("x")) + _coordinate(jwk.get("y"))
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        if kind == ("OKP", "X25519"):
            return x25519.X25519PublicKey.from_public_bytes(_coordinate(jwk.get("x")))
    raise ValueError("a key of an unknown curve")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _coordinate(value: object) -> bytes:
    if isinstance(value, str) and len(value) == 43:  # 32 bytes
        data = base64.urlsafe_b64decode(value + "=")
        if _text(data) == value:
            return data
    raise ValueError("a coordinate is 32 bytes in base64url")
