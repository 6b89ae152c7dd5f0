"""Every envelope byte for byte against tests/vectors/envelopes, which a script that shares no code with this package wrote."""

from __future__ import annotations

import base64
import json
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from gapura import aes128gcm, cryptojs, hpke, jwe, members
from gapura.codec import Context, Entropy, Place, Sealed, b64url, context_bytes, fields, hkdf, unb64url
from gapura.curves import PrivateKey, from_jwk, to_jwk

FOLDER = Path(__file__).resolve().parents[3] / "tests/vectors/envelopes"
UNOPENED = (ValueError, TypeError, KeyError, InvalidTag, InvalidUnwrap)
Case = dict[str, Any]


def vectors(name: str) -> list[Case]:
    cases: list[Case] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    assert cases
    return cases


def context_of(case: Case) -> Context:
    names = ("profile", "kid", "method", "authority", "path", "query", "subject", "token_id", "iat", "id", "content_type", "part")
    return Context(**{name: case[name] for name in names})


def private(jwk: Case) -> PrivateKey:
    secret = base64.urlsafe_b64decode(jwk["d"] + "=")
    if jwk["crv"] == "X25519":
        return x25519.X25519PrivateKey.from_private_bytes(secret)
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())


class Pinned(Entropy):
    """Gives these keys and bytes, in this order."""

    def __init__(self, *values: PrivateKey | bytes) -> None:
        self._keys = [value for value in values if not isinstance(value, bytes)]
        self._bytes = [value for value in values if isinstance(value, bytes)]

    def key(self, curve: str) -> PrivateKey:
        return self._keys.pop(0)

    def bytes(self, length: int) -> bytes:
        return self._bytes.pop(0)


def changes(message: bytes) -> Iterator[bytes]:
    for at in range(0, len(message), 7):
        yield message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
    yield message[:-1]


class Envelopes(unittest.TestCase):
    def opens_only_as_it_is(self, sealed: Sealed, case: Case, message: bytes) -> None:
        status, part, content_type = case["status"], case["part"], case["content_type"]
        opened = sealed.open(message, status, part, content_type)
        self.assertEqual((opened.plaintext.decode(), opened.content_type), (case["plaintext"], content_type))
        for changed in changes(message):
            with self.assertRaises(UNOPENED):
                sealed.open(changed, status, part, content_type)
        for other in ((status + 1, part), (status, part + "/x")):
            with self.assertRaises(UNOPENED):
                sealed.open(message, *other, content_type)

    def test_fields(self) -> None:
        for case in vectors("fields"):
            self.assertEqual(fields(*case["fields"]).hex(), case["hex"])

    def test_contexts(self) -> None:
        for case in vectors("contexts"):
            own = context_bytes(context_of(case), case.get("status"), case.get("request_id", ""))
            self.assertEqual(own.hex(), case["context_hex"])

    def test_session_keys(self) -> None:
        for case in vectors("session-keys"):
            info = fields("gapura session key v2", *(case[name] for name in ("kid", "method", "subject", "token_id")))
            self.assertEqual(b64url(hkdf(unb64url(case["secret"]), info)), case["session_key"])

    def test_hpke(self) -> None:
        for case in vectors("hpke"):
            with self.subTest(case["name"]):
                request = case["request"]
                recipient = from_jwk(case["recipient"]["public"])
                self.assertEqual(to_jwk(recipient), case["recipient"]["public"])
                entropy = Pinned(private(case["ephemeral"]))
                plaintext = request["plaintext"].encode()
                sealed = hpke.seal(context_of(request), recipient, plaintext, aead=case["aead"], entropy=entropy)
                self.assertEqual(b64url(sealed.message), request["message"])
                self.opens_only_as_it_is(sealed, case["response"], unb64url(case["response"]["message"]))

    def test_jwe(self) -> None:
        for case in vectors("jwe"):
            with self.subTest(case["name"]):
                request = case["request"]
                if case["alg"] == "ECDH-ES":
                    key = from_jwk(case["recipient"]["public"])
                    entropy = Pinned(private(case["ephemeral"]), private(case["reply"]), unb64url(request["iv"]))
                    sealed = jwe.seal(context_of(request), key, request["plaintext"].encode(), entropy=entropy)
                else:
                    session_key = unb64url(case["session_key"])
                    entropy = Pinned(unb64url(request["cek"]), unb64url(request["iv"]))
                    sealed = jwe.seal(context_of(request), session_key, request["plaintext"].encode(), entropy=entropy)
                self.assertEqual(sealed.message.decode(), request["message"])
                self.opens_only_as_it_is(sealed, case["response"], case["response"]["message"].encode())

    def test_aes128gcm(self) -> None:
        for case in vectors("aes128gcm"):
            with self.subTest(case["name"]):
                request, response, key = case["request"], case["response"], unb64url(case["session_key"])
                size, entropy = request["record_size"], Pinned(unb64url(request["salt"]))
                plaintext = request["plaintext"].encode()
                sealed = aes128gcm.seal(context_of(request), key, plaintext, record_size=size, entropy=entropy)
                self.assertEqual(b64url(sealed.message), request["message"])
                whole = unb64url(response["message"])
                self.opens_only_as_it_is(sealed, response, whole)
                # Whole records taken off the end leave a message that was cut off.
                for end in range(21 + len(response["keyid"]), len(whole), response["record_size"]):
                    with self.assertRaises(ValueError):
                        sealed.open(whole[:end], response["status"], response["part"], response["content_type"])

    def test_cryptojs(self) -> None:
        for case in vectors("cryptojs-mac"):
            request, response = case["request"], case["response"]
            key = cryptojs.Passphrase(case["passphrase"], case["key_hash"])
            salt = Pinned(bytes.fromhex(request["salt_hex"]))
            envelope = key.seal(case["subject"], request["ts"], request["plaintext"].encode(), salt)
            self.assertEqual(cryptojs.dumps(envelope).decode(), request["body"])
            names = ("method", "authority", "path", "query", "subject")
            place = Place(**{name: case[name] for name in names}, token_id="")
            mac = cryptojs.Mac(key, place, request["ts"], request["body"].encode(), Pinned(unb64url(request["n"])))
            self.assertEqual(mac.header, request["mac_header"])

            body = response["body"].encode()
            mac.verify(response["mac_header"], body, response["status"])
            self.assertEqual(key.open(json.loads(body)).decode(), response["plaintext"])
            own = (request["mac_header"], request["body"].encode(), response["status"])
            for wrong in ((response["mac_header"], body + b" ", 201), (response["mac_header"], body, 200), (None, body, 201), own):
                with self.assertRaises(ValueError):
                    mac.verify(*wrong)
            with self.assertRaises(ValueError):
                cryptojs.Passphrase(case["passphrase"], "0" * 64).open(json.loads(body))

    def test_members(self) -> None:
        cases = {case["name"]: case for name in ("hpke", "jwe", "aes128gcm") for case in vectors(name)}
        for vector in vectors("members"):
            for side in ("request", "response"):
                message = json.dumps(cases[vector["case"]][side]["message"])
                clear, sealed = vector[side]["clear"], vector[side]["sealed"]
                own = members.replace(clear, [vector["pointer"], "/absent/x"], lambda value, pointer: message)
                self.assertEqual(own, sealed)

    def test_members_of_every_form(self) -> None:
        text = '{"a":[1,{"b/c":"x\\"}","":null}],"~":-1.50e3 , "big":12345678901234567890}'
        pointers = ["/~0", "/a/1/b~1c", "/a/1/", "/a/0", "/big", "/a/2", "/a/1/b~1c/d", "/A"]
        found = {span.pointer: text[span.start : span.end] for span in members.locate(text, pointers)}
        expected = {"/~0": "-1.50e3", "/a/1/b~1c": '"x\\"}"', "/a/1/": "null", "/a/0": "1", "/big": "12345678901234567890"}
        self.assertEqual(found, expected)
        for wrong in ('{"a":1,"a":2}', '{"a":1', '{"a":NaN}', ""):
            with self.assertRaises(ValueError):
                members.locate(wrong, ["/a"])

    def test_a_delivered_session_key(self) -> None:
        for case in vectors("delivery"):
            _, plaintext = jwe.open_compact(case["sealed"], private(case["private"]))
            self.assertEqual(json.loads(plaintext), {name: case[name] for name in ("session_key", "passphrase")})
            for changed in changes(case["sealed"].encode()):
                with self.assertRaises(UNOPENED):
                    jwe.open_compact(changed.decode(), private(case["private"]))


if __name__ == "__main__":
    unittest.main()
