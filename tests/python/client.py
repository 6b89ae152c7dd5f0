"""A client of every envelope format, from the words of the formats and on libraries of others: joserfc, pyhpke, http_ece.

It shares no code with `clients/python`. Reads one JSON request per line, writes one JSON answer per line, ends with its
standard input. It does the cryptography only: the messages travel by the tests' own sockets. Byte strings are base64url.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import warnings

import http_ece
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from joserfc import jwe
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey, import_key
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unbase(data: str) -> bytes:
    return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))


def hmac256(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    return hmac256(prk, info + b"\x01")[:length]


def fields(*parts: str) -> bytes:
    """Each field behind four bytes of its length."""
    encoded = (part.encode() for part in parts)
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


PLACE = ("method", "authority", "path", "query", "subject", "tokenId")


def context(direction: str, kept: dict, iat: int, own_id: str, content_type: str, part: str, *more: str) -> bytes:
    place = (kept["request"].get(name, "") for name in PLACE)
    return fields(
        "gapura context v1", direction, kept["profile"], kept["kid"], *place, str(iat), own_id, content_type, part, *more
    )  # fmt: skip


# Requests whose responses may still come.
sent: list[dict] = []


def keep(kept: dict) -> int:
    sent.append(kept)
    return len(sent) - 1


def seal(given: dict) -> dict:
    """A message for a request, and the handle by which its response is opened. `over` spoils what the format fixes."""
    kept = {name: given[name] for name in ("profile", "kid", "request")}
    kept["id"] = text(os.urandom(16))
    given["content"] = given["content"].encode()
    message = {"hpke": seal_hpke, "aes128gcm": seal_ece, "jwe": seal_jwe}[kept["profile"]](kept, given)
    return {"message": message, "handle": keep(kept)}


def open_response(given: dict) -> dict:
    kept = sent[given["handle"]]
    opened = {"hpke": open_hpke, "aes128gcm": open_ece, "jwe": open_jwe}[kept["profile"]]
    return opened(kept, given["message"], given["status"], given.get("part", ""), given.get("contentType", ""))


# --- hpke: pyhpke, and the response by hand from RFC 9458, section 4.4 ---------------------------------------

KEMS = {"P-256": KEMId.DHKEM_P256_HKDF_SHA256, "X25519": KEMId.DHKEM_X25519_HKDF_SHA256}
AEADS = {2: (AEADId.AES256_GCM, AESGCM), 3: (AEADId.CHACHA20_POLY1305, ChaCha20Poly1305)}


def short(part: str) -> bytes:
    return bytes([len(part.encode())]) + part.encode()


def seal_hpke(kept: dict, given: dict) -> str:
    over = given.get("over", {})
    kem, (aead, cipher) = KEMS[given["key"]["crv"]], AEADS[given.get("aead", 2)]
    ids = [over.get("kem", kem.value), over.get("kdf", 1), over.get("aead", aead.value)]
    iat, content_type = given["iat"], given["contentType"]
    header = b"".join(
        (
            bytes([over.get("version", 1)]), short(kept["kid"]), *(name.to_bytes(2, "big") for name in ids),
            iat.to_bytes(8, "big"), unbase(kept["id"]), short(content_type),
        )
    )  # fmt: skip
    key = KEMKey.from_jwk({name: given["key"][name] for name in ("kty", "crv", "x", "y") if name in given["key"]})
    suite = CipherSuite.new(kem, KDFId.HKDF_SHA256, aead)
    enc, sender = suite.create_sender_context(key, over.get("info", "gapura hpke v1\0").encode() + header)
    aad = context("request", kept, iat, kept["id"], content_type, kept["request"].get("part", ""))
    sealed = sender.seal(given["content"], aad)
    kept |= {"enc": enc, "secret": sender.export(b"gapura hpke response v1", 32), "cipher": cipher}
    return text(header + unbase(over["enc"] if "enc" in over else text(enc)) + sealed)


def open_hpke(kept: dict, message: str, status: int, part: str, _: str) -> dict:
    data = unbase(message)
    if data[0] != 1:
        raise ValueError("another version")
    iat, own_id, end = int.from_bytes(data[1:9], "big"), text(data[9:25]), 26 + data[25]
    content_type, nonce = data[26:end].decode(), data[end : end + 32]
    prk = hmac256(kept["enc"] + nonce, kept["secret"])
    aad = context("response", kept, iat, own_id, content_type, part, str(status), kept["id"])
    content = kept["cipher"](expand(prk, b"key", 32)).decrypt(expand(prk, b"nonce", 12), data[end + 32 :], aad)
    return {"content": content.decode(), "contentType": content_type}


# --- aes128gcm: http_ece -------------------------------------------------------------------------------------


def input_key(kept: dict, of_message: bytes) -> bytes:
    prk = hmac256(bytes(32), unbase(kept["session"]))
    return expand(prk, b"gapura aes128gcm v1\0" + of_message, 32)


def seal_ece(kept: dict, given: dict) -> str:
    kept["session"] = given["key"]
    part, iat = kept["request"].get("part", ""), given["iat"]
    key = input_key(kept, context("request", kept, iat, kept["id"], given["contentType"], part))
    key_id = given.get("over", {}).get("keyid", f"{kept['kid']}~{iat}~{kept['id']}")
    if given["content"]:
        return text(http_ece.encrypt(given["content"], key=key, keyid=key_id, rs=given.get("rs", 65536)))
    # Of no content http_ece writes no record, where RFC 8188, section 2, wants one that is marked as the last.
    salt = os.urandom(16)
    header = salt + (18).to_bytes(4, "big") + short(key_id)
    prk = hmac256(salt, key)
    key, nonce = expand(prk, b"Content-Encoding: aes128gcm\0", 16), expand(prk, b"Content-Encoding: nonce\0", 12)
    return text(header + AESGCM(key).encrypt(nonce, b"\x02", None))


def open_ece(kept: dict, message: str, status: int, part: str, content_type: str) -> dict:
    data = unbase(message)
    kid, iat, own_id = data[21 : 21 + data[20]].decode().split("~")
    if kid != kept["kid"]:
        raise ValueError("another key")
    key = input_key(kept, context("response", kept, int(iat), own_id, content_type, part, str(status), kept["id"]))
    return {"content": http_ece.decrypt(data, key=key).decode(), "contentType": content_type}


# --- jwe: joserfc --------------------------------------------------------------------------------------------

TEXTS = {"method": "method", "authority": "authority", "path": "path", "query": "query", "sub": "subject", "tid": "tokenId"}


ALGORITHMS = ["ECDH-ES", "A256KW", "RSA-OAEP-256", "RSA-OAEP", "RSA1_5", "A256GCM", "A128GCM", "A256CBC-HS512"]


class Registry(jwe.JWERegistry):
    """As large as the tests' answers are; and with the member `ctx`, which our format has beside those of the RFC."""

    max_protected_header_length = 4096
    max_ciphertext_length = 1 << 20

    def __init__(self) -> None:
        super().__init__(algorithms=ALGORITHMS, strict_check_header=False)


class Lax(Registry):
    """For messages that are to be refused."""

    def check_header(self, header: dict, check_more: bool = False) -> None:
        pass


def seal_jwe(kept: dict, given: dict) -> str:
    request = kept["request"]
    ctx = {"v": 1, "dir": "request", "iat": given["iat"], "id": kept["id"], "part": request.get("part", "")}
    ctx |= {member: request.get(name, "") for member, name in TEXTS.items()}
    header = {"alg": "A256KW", "enc": "A256GCM", "kid": kept["kid"], "ctx": ctx}
    if given["contentType"]:
        header["cty"] = given["contentType"]
    if isinstance(given["key"], dict):
        kept["reply"] = generated(given.get("reply", "X25519"))
        ctx["rpk"] = public(kept["reply"])
        header["alg"], key = "ECDH-ES", given["key"]
    else:
        key = {"kty": "oct", "k": given["key"]}
        kept["reply"] = import_key(key)
    kept["alg"] = header["alg"]
    over = given.get("over", {})
    ctx.update(over.get("ctx", {}))
    header.update(over.get("header", {}))
    for name in over.get("without", []):
        (header if name in header else ctx).pop(name)
    return jwe_encrypt({"header": header, "text": given["content"].decode(), "key": key})


def generated(curve: str) -> ECKey | OKPKey:
    return (OKPKey if curve == "X25519" else ECKey).generate_key(curve)


def public(key: ECKey | OKPKey) -> dict:
    members = key.as_dict(private=False)
    return {name: members[name] for name in ("kty", "crv", "x", "y") if name in members}


def open_jwe(kept: dict, message: str, status: int, part: str, _: str) -> dict:
    opened = jwe.decrypt_compact(message, kept["reply"], registry=Registry())
    header = opened.headers()
    ctx = header["ctx"]
    expected = {"v": 1, "dir": "response", "status": status, "irt": kept["id"], "part": part}
    expected |= {member: kept["request"].get(name, "") for member, name in TEXTS.items()}
    if {name: value for name, value in ctx.items() if name not in ("iat", "id")} != expected:
        raise ValueError(f"another context: {ctx}")
    if (header["alg"], header["enc"], header["kid"]) != (kept["alg"], "A256GCM", kept["kid"]):
        raise ValueError(f"another header: {header}")
    return {"content": opened.plaintext.decode(), "contentType": header.get("cty", "")}


def key_of(given: dict | str) -> Key:
    """A JWK, or an RSA key in PEM."""
    return import_key(given) if isinstance(given, dict) else RSAKey.import_key(given)


def jwe_encrypt(given: dict) -> str:
    key = key_of(given["key"])
    # joserfc, as RFC 7516 has it, writes `epk` itself.
    return jwe.encrypt_compact(given["header"], given["text"].encode(), key, registry=Lax())


def jwe_decrypt(given: dict) -> dict:
    key = key_of(given["key"])
    opened = jwe.decrypt_compact(given["message"], key, registry=Registry())
    return {"header": opened.headers(), "text": opened.plaintext.decode()}


def jwe_content(given: dict) -> str:
    """The content of a message under a key that somebody else has unwrapped."""
    header, _, nonce, content, tag = given["message"].split(".")
    return AESGCM(unbase(given["contentKey"])).decrypt(unbase(nonce), unbase(content) + unbase(tag), header.encode()).decode()


def jwe_around(given: dict) -> str:
    """A message under a key that somebody else has wrapped."""
    nonce = os.urandom(12)
    sealed = AESGCM(unbase(given["contentKey"])).encrypt(nonce, given["text"].encode(), given["header"].encode())
    return ".".join((given["header"], given["wrapped"], text(nonce), text(sealed[:-16]), text(sealed[-16:])))


def key_pair(given: dict) -> dict:
    key = generated(given["curve"])
    return {"public": public(key), "private": key.as_dict(private=True)}


# --- X-Gapura-Mac: hmac and hashlib --------------------------------------------------------------------------


def mac(given: dict) -> str:
    """What the header's `mac` must be, of a request or (with `status` and `irt`) of a response."""
    prk = hmac256(bytes(32), given["passphrase"].encode())
    direction = "response" if "status" in given else "request"
    digest = hashlib.sha256(unbase(given["body"])).hexdigest()
    parts = [given[name] for name in ("kid", "method", "authority", "path", "query", "userId", "ts", "n")]
    covered = ["gapura mac v1", direction, *parts, digest]
    if direction == "response":
        covered += [str(given["status"]), given["irt"]]
    return text(hmac256(expand(prk, b"gapura mac v1", 32), fields(*covered)))


# Of algorithms that nobody should use: the gateway is to refuse them.
warnings.simplefilter("ignore")

OPERATIONS = {
    "seal": seal,
    "open": open_response,
    "jweEncrypt": jwe_encrypt,
    "jweDecrypt": jwe_decrypt,
    "jweContent": jwe_content,
    "jweAround": jwe_around,
    "keyPair": key_pair,
    "mac": mac,
}

for line in sys.stdin:
    try:
        request = json.loads(line)
        value = OPERATIONS[request.pop("operation")](request)
        answer = {"value": value if isinstance(value, str) else json.dumps(value)}
    except Exception as error:  # whatever a library raises is the answer
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
