"""The transports against a gateway of this test's own, which can do what a real one never does: answer in clear, replay,
change a status. It is built on the vectors' script, which shares no code with this package. It knows A256KW and key delivery."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import time
import unittest
from collections.abc import Callable
from typing import Any

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

import gapura
from gapura import GapuraError, jwe
from gapura.codec import Context

from .test_vectors import FOLDER

_spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
assert _spec is not None and _spec.loader is not None
generate: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)

CARD = "4242424242424242"
PAYMENT = {"amount": 1999, "card": CARD}
URL = "https://api.example.com"


def jwt(**claims: object) -> str:
    return ".".join(generate.b64(json.dumps(part).encode()) for part in ({}, claims, "signature"))


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


class FakeGateway:
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.wire: list[bytes] = []
        self.asked = {"keys": 0, "session-key": 0}
        self.failed = 0
        self.subject, self.token_id = "u-1", "t-1"
        self.expires = int(time.time()) + 900
        self.keys: list[dict[str, object]] = []
        self.secret = os.urandom(32)
        #: What the service answers, or a response of the gateway's own, or an error of the connection.
        self.service: Callable[[dict[str, Any]], tuple[int, str] | httpx.Response] = lambda seen: (201, json.dumps(seen["body"]))
        #: What becomes of a sealed response on its way.
        self.on_the_way: Callable[[httpx.Response], httpx.Response] = lambda response: response

    def client(self, authorization: str | None = None, **options: Any) -> httpx.Client:
        transport = gapura.Gateway(URL, **self.options(options)).transport(httpx.MockTransport(self.handle))
        headers = {"Authorization": authorization or f"Bearer {jwt(sub='u-1', jti='t-1')}"}
        return httpx.Client(base_url=URL, transport=transport, headers=headers)

    @staticmethod
    def options(options: dict[str, Any]) -> dict[str, Any]:
        return {"encryption": "payments", "profile": "jwe", **options}

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.wire.append(str(request.url).encode() + repr(request.headers.raw).encode() + request.content)
        path, _, query = request.url.raw_path.decode().partition("?")
        if path.startswith("/.well-known/gapura/"):
            self.asked[path.rpartition("/")[2]] += 1
            return self.deliver(request, path)
        place = {"method": request.method, "authority": request.headers["Host"], "path": path, "query": query}
        message = request.headers.get("X-Gapura-Envelope", "").removeprefix("jwe=").encode() or request.content
        try:
            header, plaintext = self.open(message.decode(), place)
        except (ValueError, KeyError, InvalidTag, InvalidUnwrap):
            self.failed += 1
            return self.problem(400, "DECRYPTION_FAILED")
        body = json.loads(plaintext) if plaintext else None
        self.seen.append({"body": body, "headers": request.headers, "cty": header.get("cty"), **header["ctx"]})
        answer = self.service(self.seen[-1])
        if isinstance(answer, httpx.Response):
            return answer
        return self.on_the_way(self.seal(header, *answer))

    def deliver(self, request: httpx.Request, path: str) -> httpx.Response:
        if path.endswith("/keys"):
            return httpx.Response(200, json={"keys": self.keys}, headers={"Cache-Control": "public, max-age=300"})
        if "Authorization" not in request.headers:
            return self.problem(401, "CREDENTIALS_MISSING")
        jwk = json.loads(request.content)["public_key"]
        x, y = (int.from_bytes(unb64(jwk[name]), "big") for name in "xy")
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        own = ec.generate_private_key(ec.SECP256R1())
        cek = generate.concat_kdf(own.exchange(ec.ECDH(), public), "A256GCM", 256)
        header = {"alg": "ECDH-ES", "enc": "A256GCM", "epk": generate.jwk(own)}
        kid = f"sessions.1.{self.expires}"
        inside = generate.compact({"session_key": generate.b64(self.session_key(kid))}).encode()
        sealed = generate.jwe(header, cek, b"", os.urandom(12), inside)
        caller = {"subject": self.subject, "token_id": self.token_id}
        delivered = {**caller, "encryption": "payments", "profiles": ["jwe"], "expires": self.expires, "kid": kid, "sealed": sealed}
        return httpx.Response(200, json=delivered)

    def session_key(self, kid: str) -> bytes:
        info = generate.fields("gapura session key v2", kid, generate.METHOD, self.subject, self.token_id)
        key: bytes = generate.hkdf(b"", self.secret, info, 32)
        return key

    def open(self, message: str, place: dict[str, str]) -> tuple[dict[str, Any], bytes]:
        protected, encrypted_key, iv, sealed, tag = message.split(".")
        header = json.loads(unb64(protected))
        expected = {**place, "sub": self.subject, "tid": self.token_id, "dir": "request", "part": "", "v": 1}
        if expected.items() - header["ctx"].items():
            raise ValueError("another context")
        cek = aes_key_unwrap(self.session_key(header["kid"]), unb64(encrypted_key))
        return header, AESGCM(cek).decrypt(unb64(iv), unb64(sealed) + unb64(tag), protected.encode())

    def seal(self, header: dict[str, Any], status: int, text: str) -> httpx.Response:
        own = {"dir": "response", "iat": int(time.time() * 1000), "id": generate.b64(os.urandom(16))}
        ctx = {**header["ctx"], **own, "status": status, "irt": header["ctx"]["id"]}
        head = {"alg": "A256KW", "enc": "A256GCM", "kid": header["kid"], "cty": "application/json", "ctx": ctx}
        cek = os.urandom(32)
        wrapped = aes_key_wrap(self.session_key(header["kid"]), cek)
        body = generate.jwe(head, cek, wrapped, os.urandom(12), text.encode())
        return httpx.Response(status, content=body, headers={"Content-Type": "application/jose", "X-Own": "1"})

    @staticmethod
    def problem(status: int, code: str, **headers: str) -> httpx.Response:
        body = {"type": "urn:gapura:problem:x", "title": code, "status": status, "detail": "no", "code": code}
        own = {"Content-Type": "application/problem+json", "X-Request-Id": "r-1", **headers}
        return httpx.Response(status, content=json.dumps(body), headers=own)


class Exchanges(unittest.TestCase):
    def setUp(self) -> None:
        self.gateway = FakeGateway()
        # Whatever happens: no card is ever on the wire.
        self.addCleanup(lambda: self.assertFalse([seen for seen in self.gateway.wire if CARD.encode() in seen]))

    def refused(self, code: str, status: int | None, call: Callable[[], object]) -> GapuraError:
        with self.assertRaises(GapuraError) as raised:
            call()
        self.assertEqual((raised.exception.code, raised.exception.status), (code, status))
        return raised.exception

    def test_a_payment_goes_sealed_and_its_answer_comes_back_opened(self) -> None:
        with self.gateway.client() as client:
            response = client.post("/payments?x=1", json=PAYMENT)
            self.assertEqual((response.status_code, response.json(), response.headers["X-Own"]), (201, PAYMENT, "1"))
            self.assertEqual(response.headers["Content-Type"], "application/json")
            client.post("/payments?x=1", content=json.dumps(PAYMENT))
        first, second = self.gateway.seen
        self.assertEqual((first["body"], first["cty"], second["cty"]), (PAYMENT, "application/json", "application/json"))
        self.assertNotEqual(first["id"], second["id"])
        self.assertNotEqual(first["headers"]["Idempotency-Key"], second["headers"]["Idempotency-Key"])
        self.assertEqual(self.gateway.asked, {"keys": 1, "session-key": 1})

    def test_a_request_without_a_body_carries_its_message_in_a_header(self) -> None:
        with self.gateway.client() as client:
            self.assertIsNone(client.get("/payments", params={"q": "a b"}).json())
            self.assertIsNone(client.delete("/payments/1").json())
        self.assertEqual([seen["method"] for seen in self.gateway.seen], ["GET", "DELETE"])

    def test_async(self) -> None:
        async def pay() -> Any:
            gateway = gapura.Gateway(URL, **self.gateway.options({"retries": 1}))
            transport = gateway.async_transport(httpx.MockTransport(self.gateway.handle))
            auth = gapura.BearerAuth(lambda: jwt(sub="u-1", jti="t-1"))
            async with httpx.AsyncClient(base_url=URL, transport=transport, auth=auth) as client:
                return (await client.post("/payments", json=PAYMENT)).json()

        self.gateway.service = lambda seen: (
            (201, json.dumps(seen["body"])) if len(self.gateway.seen) > 1 else self.gateway.problem(503, "OVERLOADED", **{"Retry-After": "0"})
        )
        self.assertEqual(asyncio.run(pay()), PAYMENT)

    def test_a_key_that_the_gateway_no_longer_takes_is_replaced_once(self) -> None:
        with self.gateway.client() as client:
            client.post("/payments", json=PAYMENT)
            self.gateway.secret = os.urandom(32)
            self.assertEqual(client.post("/payments", json=PAYMENT).status_code, 201)
            self.assertEqual((self.gateway.failed, self.gateway.asked["session-key"]), (1, 2))
            # Under the key that the gateway still gives: the refusal may be forged, and nothing is sent again.
            self.gateway.open = lambda message, place: (_ for _ in ()).throw(ValueError())  # type: ignore[method-assign]
            self.refused("DECRYPTION_FAILED", 400, lambda: client.post("/payments", json=PAYMENT))
            self.assertEqual(self.gateway.failed, 2)

    def test_a_session_key_is_replaced_before_it_expires_and_for_other_credentials(self) -> None:
        now = time.time()
        with self.gateway.client(now=lambda: now) as client:
            client.get("/payments")
            now += 880
            client.get("/payments")
            self.assertEqual(self.gateway.asked["session-key"], 2)
            now -= 880
            client.get("/payments")
            client.get("/payments", headers={"Authorization": "ApiKey other"})
            self.assertEqual(self.gateway.asked["session-key"], 3)

    def test_no_key_and_nothing_is_sent(self) -> None:
        self.gateway.keys = [{"kty": "EC", "crv": "P-521", "kid": "a", "encryption": {"payments": ["hpke"]}}]
        pinned: dict[str, Any] = {"keys": {"keys": []}}  # no session key takes their place
        for options in ({"encryption": "other"}, {"profile": "hpke"}, {"profile": "cryptojs"}, pinned):
            with self.gateway.client(**options) as client:
                self.refused("KEY_UNAVAILABLE", None, lambda: client.post("/payments", json=PAYMENT))
        self.assertEqual((self.gateway.seen, self.gateway.failed), ([], 0))

    def test_who_calls_is_asked_where_nothing_says_it(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.gateway.keys = [{**generate.jwk(key), "kid": "a", "encryption": {"payments": ["hpke"]}}]
        with self.gateway.client("ApiKey k", profile="hpke") as client:
            self.refused("DECRYPTION_FAILED", 400, lambda: client.post("/payments", json=PAYMENT))
        self.assertEqual(self.gateway.asked, {"keys": 2, "session-key": 2})
        self.assertIn(b"no-cache", [seen for seen in self.gateway.wire if b"/gapura/keys" in seen][1], "past every cache")
        transport = gapura.Gateway(URL, **self.gateway.options({"profile": "hpke"})).transport(httpx.MockTransport(self.gateway.handle))
        with httpx.Client(base_url=URL, transport=transport) as client:
            self.refused("CREDENTIALS_MISSING", 401, lambda: client.post("/payments", json=PAYMENT))

    def test_a_response_that_is_not_as_it_was_sealed_is_none(self) -> None:
        def changed(response: httpx.Response, **other: Any) -> httpx.Response:
            given = {"status_code": response.status_code, "content": response.content, **other}
            return httpx.Response(headers={"Content-Type": "application/jose"}, **given)

        ways: list[Callable[[httpx.Response], httpx.Response]] = [
            lambda response: changed(response, content=response.content[:-30] + b"AAAA" + response.content[-26:]),
            lambda response: changed(response, content=response.content[:-4]),
            lambda response: changed(response, content=b"{}"),
            lambda response: changed(response, status_code=200),
        ]
        with self.gateway.client() as client:
            for way in ways:
                self.gateway.on_the_way = way
                with self.assertRaises(GapuraError) as raised:
                    client.post("/payments", json=PAYMENT)
                self.assertEqual(raised.exception.code, "RESPONSE_INVALID")
            kept: list[httpx.Response] = []
            self.gateway.on_the_way = lambda response: kept.append(response) or changed(kept[0])  # type: ignore[func-returns-value]
            client.post("/payments", json=PAYMENT)
            self.refused("RESPONSE_INVALID", 201, lambda: client.post("/payments", json=PAYMENT))

    def test_a_response_in_clear_is_none(self) -> None:
        with self.gateway.client() as client:
            for status, content_type, body in (
                (200, "application/json", b'{"status":"authorized"}'),
                (500, "text/html", b"<h1>proxy</h1>"),
                (200, "application/problem+json", b'{"type":"urn:gapura:problem:x","code":"X"}'),
                (422, "application/problem+json", b'{"type":"about:blank","code":"X"}'),
                (502, "application/problem+json", b"not JSON"),
            ):
                clear = httpx.Response(status, content=body, headers={"Content-Type": content_type})
                self.gateway.service = lambda seen, clear=clear: clear  # type: ignore[misc]
                self.refused("RESPONSE_NOT_SEALED", status, lambda: client.post("/payments", json=PAYMENT))
            self.gateway.service = lambda seen: httpx.Response(204)
            self.assertEqual(client.delete("/payments/1").status_code, 204)

    def test_the_gateways_refusals_are_errors_with_its_code(self) -> None:
        self.gateway.service = lambda seen: self.gateway.problem(429, "RATE_LIMITED", **{"Retry-After": "7"})
        with self.gateway.client(retries=3) as client:
            error = self.refused("RATE_LIMITED", 429, lambda: client.post("/payments", json=PAYMENT))
        assert error.response is not None and error.problem is not None
        self.assertEqual((error.request_id, error.problem["detail"]), ("r-1", "no"))
        self.assertEqual((error.response.headers["Retry-After"], len(self.gateway.seen)), ("7", 1))

    def test_retries_seal_anew_with_one_idempotency_key(self) -> None:
        def broken_first(seen: dict[str, Any]) -> tuple[int, str] | httpx.Response:
            if len(self.gateway.seen) == 1:
                raise httpx.ReadError("reset")
            if len(self.gateway.seen) == 2:
                return self.gateway.problem(502, "UPSTREAM_UNAVAILABLE", **{"Retry-After": "0"})
            return 201, "{}"

        self.gateway.service = broken_first
        with self.gateway.client(retries=2) as client:
            self.assertEqual(client.post("/payments", json=PAYMENT).status_code, 201)
        self.assertEqual(len({seen["id"] for seen in self.gateway.seen}), 3)
        self.assertEqual(len({seen["headers"]["Idempotency-Key"] for seen in self.gateway.seen}), 1)

        self.gateway.seen.clear()
        with self.gateway.client() as client, self.assertRaises(httpx.ReadError):
            client.post("/payments", json=PAYMENT)
        self.assertEqual(len(self.gateway.seen), 1, "unasked, nothing is sent twice")

    def test_a_message_leaves_for_its_own_gateway_only(self) -> None:
        with self.gateway.client() as client:
            for url in ("https://elsewhere.example/payments", "http://api.example.com/payments", f"{URL}:8443/payments"):
                self.refused("FOREIGN_ORIGIN", None, lambda url=url: client.post(url, json=PAYMENT))  # type: ignore[misc]
        self.assertEqual(self.gateway.wire, [])

    def test_members_are_sealed_in_json_only(self) -> None:
        with self.gateway.client(members=["/card"]) as client:
            for content, content_type in ((b"a", "text/plain"), (b"{", "application/json"), (b'{"card":1,"card":2}', "application/json")):
                call = lambda: client.post("/payments", content=content, headers={"Content-Type": content_type})  # noqa: E731
                self.refused("MEMBER_INVALID", None, call)
        self.assertEqual((self.gateway.seen, self.gateway.failed), ([], 0))

    def test_nothing_printed_shows_a_key(self) -> None:
        place = {"method": "GET", "authority": "a", "path": "/", "query": "", "subject": "", "token_id": ""}
        context = Context(**place, profile="jwe", kid="k", iat=1, id="i", content_type="")
        self.assertNotIn("kkkk", repr(jwe.seal(context, b"k" * 32, b"")))


if __name__ == "__main__":
    unittest.main()
