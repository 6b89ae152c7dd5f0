"""What examples/clients/clients.test.mjs lets this package do with the real gateway: live.py URL, the token in TOKEN."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from typing import Any

import httpx

import gapura

CARD = "4242424242424242"
BODY = '{ "amount": 19.990, "card": {"number":"%s","holder":"Zoë"}, "big": 12345678901234567890 }' % CARD
CARDS = {"encryption": "cards", "members": ["/card/number", "/card/cvv"]}


def check(url: str, path: str, **options: Any) -> None:
    gateway = gapura.Gateway(url, **options)
    with httpx.Client(base_url=url, transport=gateway.transport(), auth=gapura.BearerAuth(os.environ["TOKEN"])) as client:
        response = client.post(path, content=BODY.encode(), headers={"Content-Type": "application/json"})
        received = response.text if path == "/echo" else base64.b64decode(response.json()["body_base64"]).decode()
        assert received == BODY, (options, received)
        if path != "/echo":
            assert client.get(path, params={"q": "a b/é"}).json()["method"] == "GET"


async def concurrently(url: str) -> None:
    gateway = gapura.Gateway(url, encryption="payments", profile="aes128gcm")
    auth = gapura.BearerAuth(os.environ["TOKEN"])
    async with httpx.AsyncClient(base_url=url, transport=gateway.async_transport(), auth=auth) as client:
        responses = await asyncio.gather(*(client.get("/debug/request/large") for _ in range(8)))
    assert {response.json()["method"] for response in responses} == {"GET"}


def main() -> None:
    url = sys.argv[1]
    for profile in ("hpke", "jwe"):
        check(url, "/debug/request/curve/a", encryption="curve", profile=profile)
    check(url, "/debug/request/curve/a", encryption="curve", profile="hpke", chacha=True)
    check(url, "/debug/request/large", encryption="payments", profile="hpke", chacha=True)
    check(url, "/debug/request/large", encryption="payments", profile="jwe", session_key=True)
    check(url, "/debug/request/founding/a", encryption="founding", profile="cryptojs")
    for profile in ("hpke", "jwe", "aes128gcm"):
        check(url, "/echo", profile=profile, **CARDS)
    asyncio.run(concurrently(url))
    print("all as it was sent")


if __name__ == "__main__":
    main()
