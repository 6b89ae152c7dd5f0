"""Writes the test vectors of every envelope beside this file: fixed keys, fixed nonces, every byte pinned.

It is written from docs/strong-envelopes.md, jose.md and encryption.md alone and shares no code with the gateway or the clients. What it does by hand
(HPKE, ECDH-ES, RFC 8188) is built on the primitives of `cryptography`; HPKE is checked against that library's own, which has
neither associated data nor exports and so cannot do the whole.

    .venv/bin/python tests/vectors/envelopes/generate.py            # writes
    .venv/bin/python tests/vectors/envelopes/generate.py --check    # says whether what stands here is what it would write
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives import hpke, keywrap, serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

HERE = Path(__file__).parent
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
IAT = 1795262400000  # 2026-11-21T12:00:00Z
EXPIRY = 1795263300  # a quarter of an hour later
METHOD = "jwt.users"  # what proved the caller: the table of the configuration
SUBJECT, TOKEN_ID, AUTHORITY = "u-1001", "3f6c1e", "api.example.com"
PAYMENT = '{"amount":1999,"currency":"EUR","card":"4242424242424242","note":"Café Zoë"}'
ANSWER = '{"id":"pay_1","status":"authorized","card_last4":"4242"}'
JSON = "application/json"


# --- bytes ------------------------------------------------------------------------------------------------


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def fixed(label: str, length: int) -> bytes:
    """Bytes that look random and are the same for ever."""
    return b"".join(hashlib.sha256(f"gapura vectors {label} {i}".encode()).digest() for i in range(-(-length // 32)))[:length]


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def fields(*texts: str) -> bytes:
    return b"".join(len(t.encode()).to_bytes(4, "big") + t.encode() for t in texts)


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = mac(prk, block + info + bytes([number]))
        out, number = out + block, number + 1
    return out[:length]


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    return expand(mac(salt, ikm), info, length)


# --- context ----------------------------------------------------------------------------------------------


def request_of(profile: str, kid: str, name: str, part: str = "", content_type: str = JSON, **changed: object) -> dict:
    request = {
        "profile": profile, "kid": kid, "method": "POST", "authority": AUTHORITY, "path": "/payments", "query": "",
        "subject": SUBJECT, "token_id": TOKEN_ID, "iat": IAT, "id": b64(fixed(f"{name} id", 16)),
        "content_type": content_type, "part": part,
    }
    return {**request, **changed}


def response_of(request: dict, name: str, status: int = 201, content_type: str = JSON) -> dict:
    own = {"iat": IAT + 250, "id": b64(fixed(f"{name} response id", 16)), "content_type": content_type}
    return {**request, **own, "status": status, "request_id": request["id"]}


def context(c: dict) -> bytes:
    common = ["profile", "kid", "method", "authority", "path", "query", "subject", "token_id", "iat", "id", "content_type", "part"]
    values = [str(c[name]) for name in common]
    if "status" in c:
        return fields("gapura context v1", "response", *values, str(c["status"]), c["request_id"])
    return fields("gapura context v1", "request", *values)


# --- keys -------------------------------------------------------------------------------------------------


def p256(label: str) -> ec.EllipticCurvePrivateKey:
    scalar = int.from_bytes(fixed(label, 32), "big") % (P256_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def x25519_key(label: str) -> x25519.X25519PrivateKey:
    return x25519.X25519PrivateKey.from_private_bytes(fixed(label, 32))


def raw_public(key) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def jwk(key) -> dict:
    raw = raw_public(key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {"kty": "EC", "crv": "P-256", "x": b64(raw[1:33]), "y": b64(raw[33:])}
    return {"kty": "OKP", "crv": "X25519", "x": b64(raw)}


def private_jwk(key) -> dict:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {**jwk(key), "d": b64(key.private_numbers().private_value.to_bytes(32, "big"))}
    secret = key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    return {**jwk(key), "d": b64(secret)}


def pem(key) -> str:
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*pkcs8).decode()


def agree(private, public_of) -> bytes:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.exchange(ec.ECDH(), public_of.public_key())
    return private.exchange(public_of.public_key())


def ring(key) -> str:
    return "bodies-p256.2026-11" if isinstance(key, ec.EllipticCurvePrivateKey) else "bodies-x25519.2026-11"


SECRET = fixed("session ring secret", 32)
SESSION_KID = f"sessions.2026-11.{EXPIRY}"


def session_key(kid: str = SESSION_KID, method: str = METHOD, subject: str = SUBJECT, token_id: str = TOKEN_ID) -> bytes:
    return hkdf(b"", SECRET, fields("gapura session key v2", kid, method, subject, token_id), 32)


# --- hpke (RFC 9180, base mode; response as RFC 9458, section 4.4) -------------------------------------------


class Hpke:
    """The sender's side with a fixed ephemeral key."""

    def __init__(self, recipient, ephemeral, aead: int, info: bytes) -> None:
        kem = 0x0010 if isinstance(recipient, ec.EllipticCurvePrivateKey) else 0x0020
        kem_suite = b"KEM" + kem.to_bytes(2, "big")
        self.suite = b"HPKE" + kem.to_bytes(2, "big") + b"\0\1" + aead.to_bytes(2, "big")
        self.aead = {2: AESGCM, 3: ChaCha20Poly1305}[aead]
        self.enc = raw_public(ephemeral)
        eae_prk = self.extract(kem_suite, b"", b"eae_prk", agree(ephemeral, recipient))
        shared = self.expand(kem_suite, eae_prk, b"shared_secret", self.enc + raw_public(recipient), 32)
        schedule = b"\0" + self.extract(self.suite, b"", b"psk_id_hash", b"") + self.extract(self.suite, b"", b"info_hash", info)
        secret = self.extract(self.suite, shared, b"secret", b"")
        self.key = self.expand(self.suite, secret, b"key", schedule, 32)
        self.nonce = self.expand(self.suite, secret, b"base_nonce", schedule, 12)
        self.exporter = self.expand(self.suite, secret, b"exp", schedule, 32)

    @staticmethod
    def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return mac(salt, b"HPKE-v1" + suite + label + ikm)

    @staticmethod
    def expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
        return expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        return self.aead(self.key).encrypt(self.nonce, plaintext, aad)

    def export(self, label: bytes) -> bytes:
        return self.expand(self.suite, self.exporter, b"sec", label, 32)


def hold_against_the_library() -> None:
    kems = {"P256": p256("check"), "X25519": x25519_key("check")}
    aeads = {2: hpke.AEAD.AES_256_GCM, 3: hpke.AEAD.CHACHA20_POLY1305}
    for name, recipient in kems.items():
        for aead, theirs in aeads.items():
            ours = Hpke(recipient, p256("check e") if name == "P256" else x25519_key("check e"), aead, b"info")
            suite = hpke.Suite(getattr(hpke.KEM, name), hpke.KDF.HKDF_SHA256, theirs)
            assert suite.decrypt(ours.enc + ours.seal(b"", b"text"), recipient, b"info") == b"text"


def hpke_message(recipient, ephemeral, aead: int, c: dict, plaintext: bytes) -> tuple[Hpke, bytes, bytes]:
    kem = b"\0\x10" if isinstance(recipient, ec.EllipticCurvePrivateKey) else b"\0\x20"
    kid, content_type = c["kid"].encode(), c["content_type"].encode()
    header = (
        b"\1" + bytes([len(kid)]) + kid + kem + b"\0\1" + aead.to_bytes(2, "big") + c["iat"].to_bytes(8, "big")
        + base64.urlsafe_b64decode(c["id"] + "==") + bytes([len(content_type)]) + content_type
    )
    sender = Hpke(recipient, ephemeral, aead, b"gapura hpke v1\0" + header)
    return sender, header, header + sender.enc + sender.seal(context(c), plaintext)


def hpke_response(sender: Hpke, c: dict, response_nonce: bytes, plaintext: bytes) -> bytes:
    content_type = c["content_type"].encode()
    prk = mac(sender.enc + response_nonce, sender.export(b"gapura hpke response v1"))
    ct = sender.aead(expand(prk, b"key", 32)).encrypt(expand(prk, b"nonce", 12), plaintext, context(c))
    own_id = base64.urlsafe_b64decode(c["id"] + "==")
    return b"\1" + c["iat"].to_bytes(8, "big") + own_id + bytes([len(content_type)]) + content_type + response_nonce + ct


def hpke_case(name: str, recipient, aead: int, plaintext: str, answer: str, **of: object) -> dict:
    ephemeral = p256(f"{name} e") if isinstance(recipient, ec.EllipticCurvePrivateKey) else x25519_key(f"{name} e")
    request = request_of("hpke", ring(recipient), name, **of)
    response = response_of(request, name)
    sender, header, message = hpke_message(recipient, ephemeral, aead, request, plaintext.encode())
    nonce = fixed(f"{name} response nonce", 32)
    return {
        "name": name,
        "recipient": {"kid": ring(recipient), "public": jwk(recipient), "private": private_jwk(recipient), "pkcs8": pem(recipient)},
        "ephemeral": private_jwk(ephemeral),
        "aead": aead,
        "request": {
            **request, "context_hex": context(request).hex(), "plaintext": plaintext, "header_hex": header.hex(),
            "enc_hex": sender.enc.hex(), "export_hex": sender.export(b"gapura hpke response v1").hex(), "message": b64(message),
        },
        "response": {
            **response, "context_hex": context(response).hex(), "plaintext": answer, "response_nonce": b64(nonce),
            "message": b64(hpke_response(sender, response, nonce, answer.encode())),
        },
    }


# --- jwe (RFC 7516, compact) ----------------------------------------------------------------------------------


def concat_kdf(z: bytes, alg: str, bits: int) -> bytes:
    """RFC 7518, section 4.6.2, without apu and apv; one block of SHA-256 is enough for 256 bits."""
    other = len(alg).to_bytes(4, "big") + alg.encode() + bytes(8) + bits.to_bytes(4, "big")
    return hashlib.sha256(b"\0\0\0\1" + z + other).digest()[: bits // 8]


def jwe(header: dict, cek: bytes, encrypted_key: bytes, iv: bytes, plaintext: bytes) -> str:
    protected = b64(compact(header).encode())
    sealed = AESGCM(cek).encrypt(iv, plaintext, protected.encode())
    return ".".join([protected, b64(encrypted_key), b64(iv), b64(sealed[:-16]), b64(sealed[-16:])])


def ctx(c: dict) -> dict:
    names = {"method": "method", "authority": "authority", "path": "path", "query": "query", "sub": "subject", "tid": "token_id",
             "iat": "iat", "id": "id", "part": "part"}
    members = {"v": 1, "dir": "response" if "status" in c else "request", **{short: c[name] for short, name in names.items()}}
    return {**members, "status": c["status"], "irt": c["request_id"]} if "status" in c else members


def jwe_header(alg: str, c: dict, **more: object) -> dict:
    cty = {"cty": c["content_type"]} if c["content_type"] else {}
    return {"alg": alg, "enc": "A256GCM", "kid": c["kid"], **cty, **more}


def ecdh_case(name: str, recipient, plaintext: str, answer: str, **of: object) -> dict:
    make = p256 if isinstance(recipient, ec.EllipticCurvePrivateKey) else x25519_key
    ephemeral, reply, answering = make(f"{name} e"), make(f"{name} reply"), make(f"{name} answering")
    request = request_of("jwe", ring(recipient), name, **of)
    response = response_of(request, name)
    iv, answer_iv = fixed(f"{name} iv", 12), fixed(f"{name} answer iv", 12)
    header = jwe_header("ECDH-ES", request, epk=jwk(ephemeral), ctx={**ctx(request), "rpk": jwk(reply)})
    answer_header = jwe_header("ECDH-ES", response, epk=jwk(answering), ctx=ctx(response))
    cek = concat_kdf(agree(ephemeral, recipient), "A256GCM", 256)
    answer_cek = concat_kdf(agree(answering, reply), "A256GCM", 256)
    return {
        "name": name, "alg": "ECDH-ES",
        "recipient": {"kid": ring(recipient), "public": jwk(recipient), "private": private_jwk(recipient), "pkcs8": pem(recipient)},
        "ephemeral": private_jwk(ephemeral), "reply": private_jwk(reply),
        "request": {**request, "plaintext": plaintext, "iv": b64(iv), "header": compact(header), "cek": b64(cek),
                    "message": jwe(header, cek, b"", iv, plaintext.encode())},
        "response": {**response, "plaintext": answer, "answering": private_jwk(answering), "iv": b64(answer_iv),
                     "header": compact(answer_header), "cek": b64(answer_cek),
                     "message": jwe(answer_header, answer_cek, b"", answer_iv, answer.encode())},
    }


def a256kw_case(name: str, plaintext: str, answer: str, **of: object) -> dict:
    request = request_of("jwe", SESSION_KID, name, **of)
    response = response_of(request, name)

    def message(side: str, c: dict, text: str) -> dict:
        cek, iv = fixed(f"{name} {side} cek", 32), fixed(f"{name} {side} iv", 12)
        header = jwe_header("A256KW", c, ctx=ctx(c))
        wrapped = keywrap.aes_key_wrap(session_key(), cek)
        sealed = jwe(header, cek, wrapped, iv, text.encode())
        return {**c, "plaintext": text, "cek": b64(cek), "iv": b64(iv), "header": compact(header), "message": sealed}

    return {"name": name, "alg": "A256KW", "session_key": b64(session_key()),
            "request": message("request", request, plaintext), "response": message("response", response, answer)}


# --- aes128gcm (RFC 8188) ---------------------------------------------------------------------------------------


def rfc8188(ikm: bytes, keyid: bytes, salt: bytes, record_size: int, plaintext: bytes) -> bytes:
    prk = mac(salt, ikm)
    key = expand(prk, b"Content-Encoding: aes128gcm\0", 16)
    base = int.from_bytes(expand(prk, b"Content-Encoding: nonce\0", 12), "big")
    out = salt + record_size.to_bytes(4, "big") + bytes([len(keyid)]) + keyid
    step = record_size - 17
    pieces = [plaintext[at : at + step] for at in range(0, len(plaintext), step)] or [b""]
    for number, piece in enumerate(pieces):
        delimiter = b"\2" if number == len(pieces) - 1 else b"\1"
        out += AESGCM(key).encrypt((base ^ number).to_bytes(12, "big"), piece + delimiter, b"")
    return out


def aes128gcm_case(name: str, record_size: int, plaintext: str, answer: str, **of: object) -> dict:
    request = request_of("aes128gcm", SESSION_KID, name, **of)
    response = response_of(request, name)

    def message(side: str, c: dict, text: str) -> dict:
        keyid = f"{c['kid']}~{c['iat']}~{c['id']}"
        ikm = hkdf(b"", session_key(), b"gapura aes128gcm v1\0" + context(c), 32)
        salt = fixed(f"{name} {side} salt", 16)
        return {**c, "context_hex": context(c).hex(), "plaintext": text, "keyid": keyid, "ikm": b64(ikm), "salt": b64(salt),
                "record_size": record_size, "message": b64(rfc8188(ikm, keyid.encode(), salt, record_size, text.encode()))}

    return {"name": name, "session_key": b64(session_key()),
            "request": message("request", request, plaintext), "response": message("response", response, answer)}


# --- cryptojs with a MAC ------------------------------------------------------------------------------------------


def salted(passphrase: str, salt: bytes, plaintext: bytes) -> str:
    material, block = b"", b""
    while len(material) < 48:
        block = hashlib.md5(block + passphrase.encode() + salt).digest()
        material += block
    padded = plaintext + bytes([16 - len(plaintext) % 16]) * (16 - len(plaintext) % 16)
    cipher = Cipher(algorithms.AES(material[:32]), modes.CBC(material[32:48])).encryptor()
    return base64.b64encode(b"Salted__" + salt + cipher.update(padded) + cipher.finalize()).decode()


def cryptojs_case(name: str, plaintext: str, answer: str) -> dict:
    passphrase = hashlib.sha256(f"{SUBJECT}_alice@example.com_example-master-key".encode()).hexdigest()
    key_hash = hashlib.sha256(passphrase.encode()).hexdigest()
    key = hkdf(b"", passphrase.encode(), b"gapura mac v1", 32)

    def message(side: str, ts: int, text: str, *further: str) -> dict:
        salt, n = fixed(f"{name} {side} salt", 8), b64(fixed(f"{name} {side} n", 16))
        envelope = {"encryptedData": salted(passphrase, salt, text.encode()), "keyHash": key_hash, "timestamp": ts, "userId": SUBJECT}
        body = compact({"success": True, "data": envelope} if side == "response" else envelope)
        signed = fields("gapura mac v1", side, key_hash[:16], "POST", AUTHORITY, "/payments", "", SUBJECT, str(ts), n,
                        hashlib.sha256(body.encode()).hexdigest(), *further)
        header = f"v=1;kid={key_hash[:16]};ts={ts};n={n};mac={b64(mac(key, signed))}"
        return {"plaintext": text, "salt_hex": salt.hex(), "ts": ts, "n": n, "body": body, "signed_hex": signed.hex(),
                "mac_header": header}

    request = message("request", IAT, plaintext)
    return {
        "name": name, "master_key": "example-master-key", "email": "alice@example.com", "passphrase": passphrase,
        "key_hash": key_hash, "mac_key_hex": key.hex(), "method": "POST", "authority": AUTHORITY, "path": "/payments", "query": "",
        "subject": SUBJECT, "request": request,
        "response": {"status": 201, **message("response", IAT + 250, answer, "201", request["n"])},
    }


# --- the files ------------------------------------------------------------------------------------------------------


def members(case: dict) -> dict:
    """A document of which one member is sealed: the message of a case whose part it is, in the place of the value."""
    before = '{ "amount": 19.990, "card": { "number": %s, "holder": "Zoë" } }'
    after = '{"status":"authorized","card":{"number":%s},"big":12345678901234567890}'
    sides = {}
    for side, document in (("request", before), ("response", after)):
        sides[side] = {"clear": document % case[side]["plaintext"], "sealed": document % compact(case[side]["message"])}
    return {"case": case["name"], "pointer": case["request"]["part"], **sides}


def files() -> dict[str, object]:
    hold_against_the_library()
    p, x = p256("recipient"), x25519_key("recipient")
    body = {"plaintext": PAYMENT, "answer": ANSWER}
    empty = {"plaintext": "", "answer": "[]", "content_type": "", "method": "GET", "query": "limit=2&q=a%20b"}
    member = {"plaintext": '"4242424242424242"', "answer": '"424242******4242"', "part": "/card/number"}
    hpke_cases = [
        hpke_case("hpke p256 aes", p, 2, **body), hpke_case("hpke x25519 aes", x, 2, **body),
        hpke_case("hpke p256 chacha", p, 3, **body), hpke_case("hpke x25519 chacha", x, 3, **body),
        hpke_case("hpke without a body", p, 2, **empty), hpke_case("hpke member", p, 2, **member),
    ]
    jwe_cases = [
        ecdh_case("jwe p256", p, **body), ecdh_case("jwe x25519", x, **body), ecdh_case("jwe without a body", p, **empty),
        ecdh_case("jwe member", p, **member), a256kw_case("jwe session", **body), a256kw_case("jwe session without a body", **empty),
        a256kw_case("jwe session member", **member),
    ]
    rfc8188_cases = [
        aes128gcm_case("aes128gcm one record", 65536, **body), aes128gcm_case("aes128gcm many records", 25, **body),
        aes128gcm_case("aes128gcm full last record", 17 + len(PAYMENT.encode()) // 3, **body),
        aes128gcm_case("aes128gcm without a body", 65536, **empty), aes128gcm_case("aes128gcm member", 65536, **member),
    ]
    full = [request_of("hpke", "bodies.2026-11", "context", query="a=1&b=%20", part="/card/number"),
            request_of("jwe", "bodies.2026-11", "context", subject="Zoë", token_id="", content_type="")]
    contexts = [*full, *(response_of(request, "context", status) for request, status in zip(full, (200, 422)))]
    delivered = {"session_key": b64(session_key()), "passphrase": fixed("passphrase", 32).hex()}
    caller, sender = p256("delivery caller"), p256("delivery sender")
    delivery = {"alg": "ECDH-ES", "enc": "A256GCM", "epk": jwk(sender)}
    cek = concat_kdf(agree(sender, caller), "A256GCM", 256)
    sealed = jwe(delivery, cek, b"", fixed("delivery iv", 12), compact(delivered).encode())
    return {
        "fields.json": [{"fields": list(f), "hex": fields(*f).hex()} for f in ((), ("",), ("a", "bc"), ("Zoë", "", "7"))],
        "contexts.json": [{**c, "context_hex": context(c).hex()} for c in contexts],
        "session-keys.json": [
            {"secret": b64(SECRET), "kid": k, "method": m, "subject": s, "token_id": t, "session_key": b64(session_key(k, m, s, t))}
            for k, m, s, t in (
                (SESSION_KID, METHOD, SUBJECT, TOKEN_ID), (SESSION_KID, METHOD, "7", ""),
                (SESSION_KID, "api_keys.developers", "7", ""), (f"s.2.{EXPIRY + 1}", METHOD, "Zoë", "t"),
            )
        ],
        "hpke.json": hpke_cases,
        "jwe.json": jwe_cases,
        "aes128gcm.json": rfc8188_cases,
        "cryptojs-mac.json": [cryptojs_case("cryptojs", PAYMENT, ANSWER)],
        "members.json": [members(hpke_cases[-1]), members(jwe_cases[3]), members(jwe_cases[-1]), members(rfc8188_cases[-1])],
        "delivery.json": [{"private": private_jwk(caller), "sealed": sealed, **delivered}],
    }


def main() -> int:
    wrong = 0
    for name, value in files().items():
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            (HERE / name).write_text(text, encoding="utf-8")
        elif (HERE / name).read_text(encoding="utf-8") != text:
            print(f"{name} is not what this script writes", file=sys.stderr)
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
