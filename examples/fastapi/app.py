"""A small payment service, as it may stand in any company: FastAPI, pydantic, a store in memory.

It holds no keys, verifies no tokens, counts no requests and decrypts nothing. Like any service behind an
authenticating proxy it takes the caller's identity from `X-User-*` headers, so it must listen where only the proxy
reaches it (127.0.0.1 by default). Without a proxy, on a laptop, every caller is the user `local`.

    python app.py                 # http://127.0.0.1:8000
    PORT=0 python app.py          # any free port; the first line on standard output names it
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import logging
import os
import secrets
import socket
from collections import OrderedDict
from collections.abc import AsyncIterable
from datetime import UTC, datetime
from typing import Annotated, Literal

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field, field_validator

log = logging.getLogger("payments")
app = FastAPI(title="Payments")

MAX_PAYMENTS = 10_000  # the store is memory: the oldest payment makes room for the newest
MAX_FILE_BYTES = 16 * 1024 * 1024


# --- who is asking ------------------------------------------------------------------------------------


class Caller(BaseModel):
    user_id: str
    email: str | None = None
    roles: list[str] = []


def caller(request: Request) -> Caller:
    # ASGI servers decode header bytes as Latin-1; the proxy writes UTF-8.
    def header(name: str) -> str | None:
        value = request.headers.get(name)
        return None if value is None else value.encode("latin-1").decode("utf-8", "replace")

    roles = header("x-user-roles") or ""
    return Caller(
        user_id=header("x-user-id") or "local",
        email=header("x-user-email"),
        roles=[role for role in roles.split(",") if role],
    )


CurrentCaller = Annotated[Caller, Depends(caller)]


# --- payments -----------------------------------------------------------------------------------------


class NewPayment(BaseModel):
    model_config = ConfigDict(extra="forbid")

    amount: int = Field(strict=True, gt=0, le=100_000_000, description="minor units: 1999 is 19.99")
    currency: Literal["EUR", "GBP", "IDR", "JPY", "USD"]
    card: str = Field(pattern=r"^[0-9]{12,19}$", repr=False)  # repr=False: a logged model does not carry it
    reference: str | None = Field(default=None, max_length=140)

    @field_validator("card")
    @classmethod
    def luhn(cls, card: str) -> str:
        digits = [int(digit) for digit in reversed(card)]
        total = sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
        if total % 10 != 0:
            raise ValueError("not a card number")
        return card


class Payment(BaseModel):
    id: str
    status: Literal["authorized"]
    amount: int
    currency: str
    card_last4: str  # all that is kept of the card
    reference: str | None
    user_id: str
    created_at: datetime


payments: OrderedDict[str, Payment] = OrderedDict()


def find(payment_id: str, user: Caller) -> Payment:
    payment = payments.get(payment_id)
    # Somebody else's payment and none at all look alike: ids cannot be probed.
    if payment is None or payment.user_id != user.user_id:
        raise HTTPException(404, "no such payment")
    return payment


@app.post("/payments", status_code=201)
async def create_payment(new: NewPayment, user: CurrentCaller, response: Response) -> Payment:
    payment = Payment(
        id=f"pay_{secrets.token_hex(8)}",
        status="authorized",
        amount=new.amount,
        currency=new.currency,
        card_last4=new.card[-4:],
        reference=new.reference,
        user_id=user.user_id,
        created_at=datetime.now(UTC),
    )
    payments[payment.id] = payment
    if len(payments) > MAX_PAYMENTS:
        payments.popitem(last=False)
    log.info("payment created id=%s", payment.id)
    response.headers["Location"] = f"/payments/{payment.id}"
    return payment


@app.get("/payments")
async def list_payments(user: CurrentCaller, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[Payment]:
    own = [payment for payment in reversed(payments.values()) if payment.user_id == user.user_id]
    return own[:limit]


@app.get("/payments/{payment_id}")
async def read_payment(payment_id: str, user: CurrentCaller) -> Payment:
    return find(payment_id, user)


@app.delete("/payments/{payment_id}", status_code=204)
async def cancel_payment(payment_id: str, user: CurrentCaller) -> None:
    del payments[find(payment_id, user).id]
    log.info("payment cancelled id=%s", payment_id)


@app.exception_handler(RequestValidationError)
async def validation_failed(_: Request, error: RequestValidationError) -> JSONResponse:
    # FastAPI's own handler repeats the rejected input, which here is a card number; keep what names the fault.
    faults = [{key: fault[key] for key in ("type", "loc", "msg")} for fault in error.errors()]
    return JSONResponse({"detail": faults}, status_code=422)


# --- everything else a gateway has to carry -----------------------------------------------------------


@app.get("/healthz")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/me")
async def me(user: CurrentCaller) -> Caller:
    return user


@app.get("/events", response_class=EventSourceResponse)
async def events(
    count: Annotated[int, Query(ge=0, le=10_000)] = 5,
    interval: Annotated[float, Query(ge=0, le=60, description="seconds")] = 1.0,
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events. A proxy that buffers shows: nothing arrives before the last one."""
    for number in range(count):
        if number:
            await asyncio.sleep(interval)
        yield ServerSentEvent(event="tick", id=str(number), data={"number": number})


@app.websocket("/ws")
async def websocket_echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


@app.put("/files/{name}")
async def upload(name: str, request: Request) -> dict[str, str | int]:
    """Reads a body of any length piece by piece and answers with its size and digest."""
    size, digest = 0, hashlib.sha256()
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_FILE_BYTES:
            raise HTTPException(413, f"more than {MAX_FILE_BYTES} bytes")
        digest.update(chunk)
    return {"name": name, "bytes": size, "sha256": digest.hexdigest()}


@app.post("/echo")
async def echo(request: Request) -> Response:
    """The body, byte for byte, under its own content type."""
    content_type = request.headers.get("content-type", "application/octet-stream")
    return Response(await request.body(), headers={"Content-Type": content_type})


ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@app.api_route("/debug/request", methods=ANY_METHOD, include_in_schema=False)
@app.api_route("/debug/request/{rest:path}", methods=ANY_METHOD, include_in_schema=False)
async def debug_request(request: Request) -> JSONResponse:
    """The request as it arrived here: what a proxy added, removed or rewrote. For learning and tests, not production."""
    body = await request.body()
    return JSONResponse(
        {
            "http_version": request.scope["http_version"],
            "method": request.method,
            "path": request.scope["raw_path"].decode("latin-1"),  # before percent-decoding
            "query": request.scope["query_string"].decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw],
            "body_base64": base64.b64encode(body).decode("ascii"),
        }
    )


# --- start --------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="the example payment service")
    parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")), help="0 takes any free port")
    arguments = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    # Bound before the server starts: whoever reads this line may connect at once, the kernel queues it.
    listener = socket.create_server((arguments.host, arguments.port), backlog=1024)
    print(f"listening on http://{arguments.host}:{listener.getsockname()[1]}", flush=True)
    # No access log: a query string may carry what must not be kept, and the gateway writes one already.
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=3))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
