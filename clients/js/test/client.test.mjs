// The wrapper against a gateway that can misbehave.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { GapuraError, gapura } from "../dist/index.js";
import { startGateway } from "./gateway.mjs";

const CARD = "4242424242424242";
const PAYMENT = JSON.stringify({ amount: 1999, card: CARD });
const jwt = (claims) => `Bearer ${["{}", JSON.stringify(claims), "signature"].map((part) => Buffer.from(part).toString("base64url")).join(".")}`;
const ALICE = jwt({ sub: "u-1", jti: "t-1" });

let gateway;
beforeEach(async () => (gateway = await startGateway()));
afterEach(() => {
  gateway.stop();
  // Whatever happened: no card has been on the wire.
  for (const request of gateway.wire) assert.ok(!request.includes(CARD));
});

const client = (options = {}) =>
  gapura({ baseUrl: gateway.url, encryption: "payments", headers: () => ({ Authorization: ALICE }), ...options });
const pay = (fetch, init = {}) => fetch("/payments?x=1", { method: "POST", body: PAYMENT, ...init });
const failsWith = (promise, code, status) =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof GapuraError, error.stack);
    assert.deepEqual([error.code, error.status], [code, status]);
    return true;
  });

test("a payment goes sealed and its answer comes back opened", async () => {
  const fetch = client();
  const response = await pay(fetch, { headers: { "X-Trace": "1" } });
  assert.equal(response.status, 201);
  assert.equal(response.headers.get("Content-Type"), "application/json");
  assert.equal(response.url, `${gateway.url}/payments?x=1`);
  assert.deepEqual(await response.json(), { echo: PAYMENT });
  const [seen] = gateway.seen;
  assert.deepEqual([seen.body, seen.type, seen.headers["x-trace"]], [PAYMENT, "application/json", "1"]);
  assert.match(seen.headers["idempotency-key"], /^[\w-]{22}$/);

  await pay(fetch);
  assert.notEqual(gateway.seen[1].id, seen.id);
  assert.notEqual(gateway.seen[1].headers["idempotency-key"], seen.headers["idempotency-key"]);
  assert.equal(gateway.asked.keys, 1, "the key set is kept");
  assert.equal(gateway.asked.session, 0, "the JWT says who the caller is");
});

test("a request without a body carries its message in a header, and so has an answer", async () => {
  gateway.path = "/caf%C3%A9/~user/";
  const fetch = client();
  for (const method of ["GET", "DELETE", "HEAD"]) {
    const response = await fetch(new URL("/caf%c3%a9/%7Euser/./?q=a%20b", gateway.url), { method });
    assert.equal(response.status, 201);
    assert.equal(await response.text(), method === "HEAD" ? "" : '{"echo":""}');
    const seen = gateway.seen.at(-1);
    assert.deepEqual([seen.method, seen.body, seen.headers["content-type"]], [method, "", undefined]);
  }
});

test("every kind of body is taken", async () => {
  const fetch = client();
  const type = { "Content-Type": "text/csv" };
  const blob = new Blob([PAYMENT], { type: "application/merge-patch+json" });
  await fetch("/a", { method: "PUT", body: new TextEncoder().encode(PAYMENT), headers: type });
  await fetch("/a", { method: "PATCH", body: blob });
  await fetch(new Request(`${gateway.url}/a`, { method: "POST", body: PAYMENT, headers: type }));
  assert.deepEqual(gateway.seen.map(({ body, type }) => [body, type]), [
    [PAYMENT, "text/csv"], [PAYMENT, "application/merge-patch+json"], [PAYMENT, "text/csv"],
  ]);
});

describe("keys", () => {
  test("a key that the gateway no longer has is asked for once, and the message sealed anew", async () => {
    const fetch = client();
    await pay(fetch);
    gateway.rotate("2");
    const response = await pay(fetch);
    assert.equal(response.status, 201);
    assert.deepEqual([gateway.failed, gateway.asked.keys], [1, 2]);
    assert.equal(gateway.seen.length, 2);
  });

  test("a refusal under the key that the gateway still offers may be forged: nothing is sent again", async () => {
    gateway.caller.subject = "somebody else";
    const fetch = client();
    await failsWith(pay(fetch), "DECRYPTION_FAILED", 400);
    assert.deepEqual([gateway.failed, gateway.asked.keys], [1, 2]);
    gateway.rotate("2");
    await failsWith(pay(fetch), "DECRYPTION_FAILED", 400);
    assert.deepEqual([gateway.failed, gateway.asked.keys], [3, 3], "another key: once more, and no more");
  });

  test("the key set is kept no longer than its headers say", async () => {
    let now = Date.now();
    const fetch = client({ now: () => now });
    gateway.maxAge = 10;
    for (const passed of [0, 9_000, 2_000, 5_000]) {
      now += passed;
      await pay(fetch);
    }
    assert.equal(gateway.asked.keys, 2);
  });

  test("requests at the same time share one look", async () => {
    const fetch = client();
    await Promise.all([pay(fetch), pay(fetch), pay(fetch)]);
    assert.equal(gateway.asked.keys, 1);
  });

  test("a key set that is known beforehand is the only one", async () => {
    const keys = gateway.keySet();
    const fetch = client({ keys });
    await pay(fetch);
    gateway.rotate("2");
    await failsWith(pay(fetch), "DECRYPTION_FAILED", 400);
    assert.deepEqual([gateway.asked.keys, gateway.failed], [0, 1]);
  });

  test("no key for the entry or the profile: nothing is sent", async () => {
    await failsWith(pay(client({ encryption: "other" })), "KEY_UNAVAILABLE", undefined);
    await failsWith(pay(client({ profile: "cryptojs" })), "KEY_UNAVAILABLE", undefined);
    const { keySet } = gateway;
    gateway.keySet = () => ({ keys: keySet().keys.map((key) => ({ ...key, crv: "P-521" })) });
    await failsWith(pay(client()), "KEY_UNAVAILABLE", undefined);
    assert.equal(gateway.seen.length, 0);
  });
});

describe("the caller", () => {
  test("is asked for where no JWT names it", async () => {
    const fetch = client({ headers: async () => new Headers({ Authorization: "ApiKey k" }) });
    assert.equal((await pay(fetch)).status, 201);
    await pay(fetch);
    assert.equal(gateway.asked.session, 1);
  });

  test("may be given", async () => {
    const fetch = client({ headers: undefined, subject: () => "u-1", tokenId: "t-1" });
    assert.equal((await pay(fetch)).status, 201);
    assert.equal(gateway.asked.session, 0);
  });

  test("is a number's text", async () => {
    gateway.caller = { subject: "7", tokenId: "" };
    assert.equal((await pay(client({ headers: () => ({ Authorization: jwt({ sub: 7 }) }) }))).status, 201);
  });

  test("a request's own credential goes before the client's", async () => {
    gateway.caller = { subject: "bob", tokenId: "" };
    assert.equal((await pay(client(), { headers: { Authorization: jwt({ sub: "bob" }) } })).status, 201);
  });

  test("nobody: the gateway says what is missing", async () => {
    await failsWith(pay(client({ headers: undefined })), "CREDENTIALS_MISSING", 401);
  });
});

describe("session keys", () => {
  const profile = "aes128gcm";

  test("one is fetched, used both ways, and fetched anew for other credentials and before it expires", async () => {
    let authorization = "ApiKey 1";
    let now = Date.now();
    const fetch = client({ profile, headers: () => ({ Authorization: authorization }), now: () => now });
    for (const count of [1, 1]) {
      assert.deepEqual(await (await pay(fetch)).json(), { echo: PAYMENT });
      assert.equal(await (await fetch("/payments")).text(), '{"echo":""}');
      assert.equal(gateway.asked.session, count);
    }
    authorization = "ApiKey 2";
    await pay(fetch);
    assert.equal(gateway.asked.session, 2);
    now += 880_000; // of 900 s
    await pay(fetch);
    assert.equal(gateway.asked.session, 3);
    assert.equal(gateway.seen[0].type, "application/json");
  });

  test("one that the gateway no longer takes is replaced once", async () => {
    const fetch = client({ profile });
    await pay(fetch);
    gateway.caller = { subject: "u-1", tokenId: "t-2" };
    assert.equal((await pay(fetch)).status, 201);
    assert.deepEqual([gateway.failed, gateway.asked.session], [1, 2]);
  });
});

describe("responses", () => {
  for (const profile of ["hpke", "aes128gcm"]) {
    test(`${profile}: changed, cut short, moved or with another status`, async () => {
      const fetch = client({ profile });
      const flip = (bytes) => ((bytes[bytes.length - 20] ^= 1), bytes);
      for (const wrong of [
        { change: flip }, { change: (bytes) => bytes.subarray(0, -1) }, { change: () => Buffer.from("{}") }, { sentStatus: 200 },
      ]) {
        gateway.answer = () => ({ status: 201, text: "{}", ...wrong });
        await failsWith(pay(fetch), "RESPONSE_INVALID", wrong.sentStatus ?? 201);
      }
      let first;
      gateway.answer = () => ({ status: 201, text: "{}", change: (bytes) => (first ??= bytes) });
      await pay(fetch);
      await failsWith(pay(fetch), "RESPONSE_INVALID", 201);
    });

    test(`${profile}: in clear is no response`, async () => {
      const fetch = client({ profile });
      for (const [status, type, body] of [
        [200, "application/json", '{"status":"authorized"}'],
        [500, "text/html", "<h1>proxy</h1>"],
        [200, "application/problem+json", '{"type":"urn:gapura:problem:x","code":"X"}'],
        [422, "application/problem+json", '{"type":"about:blank","code":"X"}'],
        [502, "application/problem+json", "not JSON"],
      ]) {
        gateway.answer = (response) => void response.writeHead(status, { "Content-Type": type }).end(body);
        await failsWith(pay(fetch), "RESPONSE_NOT_SEALED", status);
      }
    });
  }

  test("without a body stay without one", async () => {
    gateway.answer = (response) => void response.writeHead(204).end();
    const response = await client()("/payments/1", { method: "DELETE" });
    assert.deepEqual([response.status, await response.text()], [204, ""]);
  });

  test("of the service are opened, its errors too", async () => {
    gateway.answer = () => ({ status: 422, text: '{"detail":[]}', headers: { "X-Own": "1" } });
    const response = await pay(client());
    assert.deepEqual([response.status, response.ok, response.headers.get("X-Own")], [422, false, "1"]);
    assert.deepEqual(await response.json(), { detail: [] });
  });

  test("of the gateway are errors with its code", async () => {
    gateway.answer = (response) => gateway.problem(response, 429, "RATE_LIMITED", { "Retry-After": "7" });
    await assert.rejects(pay(client()), (error) => {
      assert.deepEqual(
        [error.name, error.code, error.status, error.requestId, error.problem.detail, error.response.headers.get("Retry-After")],
        ["GapuraError", "RATE_LIMITED", 429, "r-1", "no", "7"],
      );
      return true;
    });
    assert.equal(gateway.seen.length, 1);
  });
});

describe("retries", () => {
  const busyFirst = (times) => (response) => {
    if (gateway.seen.length > times) return { status: 201, text: "{}" };
    gateway.problem(response, 503, "OVERLOADED", { "Retry-After": "0" });
  };

  test("seal anew, with one Idempotency-Key", async () => {
    gateway.answer = busyFirst(2);
    assert.equal((await pay(client({ retries: 2 }))).status, 201);
    assert.equal(new Set(gateway.seen.map(({ id }) => id)).size, 3);
    assert.equal(new Set(gateway.seen.map(({ headers }) => headers["idempotency-key"])).size, 1);
  });

  test("follow a broken connection", async () => {
    gateway.answer = (response) => (gateway.seen.length > 1 ? { status: 201, text: "{}" } : void response.destroy());
    assert.equal((await pay(client({ retries: 1 }), { headers: { "Idempotency-Key": "mine" } })).status, 201);
    assert.deepEqual(gateway.seen.map(({ headers }) => headers["idempotency-key"]), ["mine", "mine"]);
  });

  test("are not made unasked, nor more often than asked", async () => {
    gateway.answer = busyFirst(9);
    await failsWith(pay(client()), "OVERLOADED", 503);
    assert.equal(gateway.seen.length, 1);
    await failsWith(pay(client({ retries: 1 })), "OVERLOADED", 503);
    assert.equal(gateway.seen.length, 3);
  });

  test("end where the caller gives up", async () => {
    const abort = new AbortController();
    gateway.answer = (response) => {
      abort.abort();
      response.destroy();
    };
    await assert.rejects(pay(client({ retries: 5 }), { signal: abort.signal }), { name: "AbortError" });
    assert.equal(gateway.seen.length, 1);
  });
});

test("a message leaves for its own gateway only, and no redirect takes it elsewhere", async () => {
  await failsWith(pay((_, init) => client()("https://elsewhere.example/payments", init)), "FOREIGN_ORIGIN", undefined);
  gateway.answer = (response) => void response.writeHead(307, { Location: "/other" }).end();
  await assert.rejects(pay(client()), TypeError);
  assert.equal(gateway.seen.length, 1);
});

test("members: only JSON bodies have them", async () => {
  const fetch = client({ members: ["/card"] });
  await failsWith(pay(fetch, { headers: { "Content-Type": "text/plain" } }), "MEMBER_INVALID", undefined);
  await failsWith(pay(fetch, { body: "{" }), "MEMBER_INVALID", undefined);
  await failsWith(pay(fetch, { body: `{"card":1,"card":${CARD}}` }), "MEMBER_INVALID", undefined);
  assert.equal(gateway.seen.length, 0);
});

test("no error and no printed client shows a key or a plaintext", async () => {
  const { inspect } = await import("node:util");
  gateway.caller.subject = "somebody else";
  const error = await pay(client()).catch((error) => error);
  assert.ok(!inspect(error, { depth: 9 }).includes(CARD));
});

test("under 10 kB, gzipped", () => {
  const size = gzipSync(readFileSync(new URL("../dist/gapura.min.js", import.meta.url)), { level: 9 }).length;
  assert.ok(size < 10_000, `${size} bytes`);
});
