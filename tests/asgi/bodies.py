"""An ASGI backend that records of every request whether its body came to an end, and what it was. `GET /seen` tells."""

import hashlib
import json
import socket

import uvicorn

seen: list[dict] = []


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/seen":
        return await answer(send, json.dumps(seen).encode())
    record = {"ended": False, "closed": False, "bytes": 0}
    seen.append(record)
    digest = hashlib.sha256()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            record["closed"] = True
            return
        record["bytes"] += len(event["body"])
        digest.update(event["body"])
        if not event["more_body"]:
            break
    record.update(ended=True, sha256=digest.hexdigest())
    await answer(send, digest.hexdigest().encode())


async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[listener])
