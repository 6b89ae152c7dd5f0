"""Pays, reads the payment back and cancels it, all of it sealed. It holds no key: the gateway's public one is fetched, or a
session key of the caller's own.

    TOKEN=… python pay.py https://127.0.0.1:8443 --profile hpke --ca gateway.pem
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys

import gapura
import httpx

PAYMENT = {"amount": 1999, "currency": "EUR", "card": "4242424242424242", "reference": "Café Zoë, table 7"}


def main() -> int:
    parser = argparse.ArgumentParser(description="one payment through the gateway")
    parser.add_argument("url")
    parser.add_argument("--profile", default="hpke", choices=["hpke", "jwe", "aes128gcm"])
    parser.add_argument("--ca", help="trust this certificate")
    arguments = parser.parse_args()

    gateway = gapura.Gateway(arguments.url, encryption="payments", profile=arguments.profile)
    transport = gateway.transport(httpx.HTTPTransport(verify=ssl.create_default_context(cafile=arguments.ca)))
    auth = gapura.BearerAuth(os.environ["TOKEN"])
    try:
        with httpx.Client(base_url=gateway.url, transport=transport, auth=auth) as client:
            created = client.post("/payments", json=PAYMENT)
            print(created.status_code, created.json())
            place = created.headers["Location"]
            print(client.get(place).json()["status"])
            print(client.delete(place).status_code)
            # What the service itself refuses comes sealed, and is a response like any other.
            refused = client.post("/payments", json={**PAYMENT, "amount": -1})
            print(refused.status_code, refused.json()["detail"][0]["loc"])
    except gapura.GapuraError as error:
        # What the gateway refuses, and what does not open.
        print(error, error.request_id or "", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
