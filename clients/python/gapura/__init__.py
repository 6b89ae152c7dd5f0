"""An httpx transport that seals requests to a Gapura gateway and opens its responses.

    gateway = gapura.Gateway("https://api.example.com", encryption="payments")
    with httpx.Client(base_url=gateway.url, transport=gateway.transport(), auth=gapura.BearerAuth(token)) as client:
        client.post("/payments", json={"amount": 1999, "currency": "EUR", "card": "4242424242424242"})

What does not open is a `GapuraError` and never a response; nothing is ever sent in clear instead.
"""

from .auth import ApiKeyAuth, BearerAuth
from .errors import GapuraError
from .gateway import Gateway, Profile
from .transport import AsyncTransport, Transport

__all__ = ["ApiKeyAuth", "AsyncTransport", "BearerAuth", "GapuraError", "Gateway", "Profile", "Transport"]
