// Both example services, without the gateway, against one list of promises: what is true of one is true of the other.
//
//     node --test examples/apps.test.mjs      (scripts/install.sh first)

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { WebSocket } = createRequire(here("express/package.json"))("ws");

const SERVICES = {
  fastapi: [here("../.venv/bin/python"), [here("fastapi/app.py")]],
  express: [process.execPath, [here("express/app.js")]],
};
const CARD = "4242424242424242";
const PAYMENT = { amount: 1999, currency: "EUR", card: CARD };

for (const [name, [program, commandLine]] of Object.entries(SERVICES)) {
  describe(name, () => {
    let service;
    let url;
    let log = "";

    before(async () => {
      service = spawn(program, [...commandLine, "--port", "0"], { stdio: ["ignore", "pipe", "pipe"] });
      service.stderr.on("data", (chunk) => (log += chunk));
      url = await new Promise((resolve, reject) => {
        service.once("error", reject);
        service.once("exit", (code) => reject(new Error(`${name} ended with ${code}: ${log}`)));
        service.stdout.on("data", (chunk) => {
          const address = /listening on (http:\S+)/.exec(chunk);
          if (address) resolve(address[1]);
        });
      });
      service.removeAllListeners("exit");
    });

    after(async () => {
      const ended = once(service, "exit");
      service.kill("SIGTERM");
      await ended;
    });

    const call = (method, path, { user = "u-1", headers = {}, body } = {}) =>
      fetch(url + path, { method, headers: { "X-User-Id": user, ...headers }, body });
    const json = { "Content-Type": "application/json" };
    const pay = (payment, user) => call("POST", "/payments", { user, headers: json, body: JSON.stringify(payment) });

    test("a payment is created, read, listed and cancelled by its user, and by nobody else", async () => {
      const created = await pay({ ...PAYMENT, reference: "invoice 7" });
      assert.equal(created.status, 201);
      const payment = await created.json();
      assert.deepEqual(Object.keys(payment), [
        "id", "status", "amount", "currency", "card_last4", "reference", "user_id", "created_at",
      ]);
      assert.deepEqual(
        [payment.status, payment.amount, payment.card_last4, payment.user_id],
        ["authorized", 1999, "4242", "u-1"],
      );
      const place = created.headers.get("location");
      assert.equal(place, `/payments/${payment.id}`);

      assert.deepEqual(await (await call("GET", place)).json(), payment);
      assert.deepEqual(await (await call("GET", "/payments")).json(), [payment]);
      assert.deepEqual(await (await call("GET", "/payments", { user: "u-2" })).json(), []);
      assert.equal((await call("GET", place, { user: "u-2" })).status, 404);
      assert.equal((await call("DELETE", place, { user: "u-2" })).status, 404);

      const cancelled = await call("DELETE", place);
      assert.deepEqual([cancelled.status, await cancelled.text()], [204, ""]);
      assert.equal((await call("GET", place)).status, 404);
    });

    test("what is wrong with a payment is named by field, and its card repeated nowhere", async () => {
      const wrong = {
        amount: [0, -1, 1.5, "1999", null, 100_000_001],
        currency: ["XXX", 1, null],
        card: ["4242424242424241", "4242 4242 4242 4242", Number(CARD), null],
        surplus: [1],
      };
      for (const [field, values] of Object.entries(wrong)) {
        for (const value of values) {
          const answer = await pay({ ...PAYMENT, [field]: value });
          const text = await answer.text();
          assert.equal(answer.status, 422, `${field} = ${value}: ${text}`);
          assert.deepEqual(JSON.parse(text).detail.map((fault) => fault.loc), [["body", field]]);
          assert.ok(!text.includes("424242"), text);
        }
      }
      for (const body of ["", '{"amount":', "[]", '"text"', `{"card":"${CARD}"`]) {
        const answer = await call("POST", "/payments", { headers: json, body });
        const text = await answer.text();
        assert.equal(answer.status, 422, `${body}: ${text}`);
        assert.ok(Array.isArray(JSON.parse(text).detail) && !text.includes(CARD), text);
      }
    });

    test("the caller is who the proxy says, in UTF-8", async () => {
      const utf8 = Buffer.from("zoë@example.com").toString("latin1"); // fetch writes headers as Latin-1
      const answer = await call("GET", "/me", { headers: { "X-User-Email": utf8, "X-User-Roles": "customer,admin" } });
      assert.deepEqual(await answer.json(), { user_id: "u-1", email: "zoë@example.com", roles: ["customer", "admin"] });
      assert.equal((await (await fetch(`${url}/me`)).json()).user_id, "local");
    });

    test("health", async () => {
      assert.deepEqual(await (await fetch(`${url}/healthz`)).json(), { status: "ok" });
    });

    test("events arrive one by one", async () => {
      const answer = await call("GET", "/events?count=3&interval=0.15");
      assert.match(answer.headers.get("content-type"), /^text\/event-stream/);
      const arrivals = [];
      let text = "";
      for await (const chunk of answer.body) {
        text += Buffer.from(chunk).toString("utf8");
        arrivals.push(performance.now());
      }
      assert.equal(text.match(/^event: tick$/gm).length, 3);
      assert.match(text, /^id: 2$/m);
      assert.ok(arrivals.at(-1) - arrivals[0] > 200, "the first event did not wait for the last");
      assert.equal((await call("GET", "/events?count=-1")).status, 422);
    });

    test("the WebSocket echoes text and bytes", async () => {
      const socket = new WebSocket(`${url.replace("http", "ws")}/ws`);
      await once(socket, "open");
      for (const [message, isBinary] of [["grüße", false], [randomBytes(1024 * 1024), true]]) {
        socket.send(message);
        const [data, binary] = await once(socket, "message");
        assert.equal(binary, isBinary);
        assert.ok(Buffer.from(message).equals(data));
      }
      socket.close();
      await once(socket, "close");
    });

    test("bodies of 1 MiB come back byte for byte", async () => {
      const body = randomBytes(1024 * 1024);
      const echoed = await call("POST", "/echo", { headers: { "Content-Type": "application/x-own" }, body });
      assert.equal(echoed.headers.get("content-type"), "application/x-own");
      assert.ok(body.equals(Buffer.from(await echoed.arrayBuffer())));

      const stored = await call("PUT", "/files/blob.bin", { body });
      const sha256 = createHash("sha256").update(body).digest("hex");
      assert.deepEqual(await stored.json(), { name: "blob.bin", bytes: body.length, sha256 });

      const json = JSON.stringify({ ...PAYMENT, reference: "x".repeat(1024 * 1024) });
      const refused = await call("POST", "/payments", { headers: { "Content-Type": "application/json" }, body: json });
      assert.equal(refused.status, 422, "read whole, then refused for its length");
    });

    test("/debug/request shows the request as it arrived", async () => {
      // node:http, because fetch would tidy the path and refuse the repeated header.
      const seen = await new Promise((resolve, reject) => {
        const target = new URL(url);
        const outgoing = request({
          host: target.hostname,
          port: target.port,
          method: "PATCH",
          path: "/debug/request/a%2fb/./c?x=%20y&x=?",
          headers: ["Host", target.host, "X-Twice", "1", "X-Twice", "2", "Content-Length", "3"],
        });
        outgoing.on("error", reject);
        outgoing.on("response", (response) => resolve(response.toArray().then((chunks) => JSON.parse(Buffer.concat(chunks)))));
        outgoing.end("\0hi");
      });
      assert.deepEqual(
        [seen.method, seen.path, seen.query, seen.body_base64],
        ["PATCH", "/debug/request/a%2fb/./c", "x=%20y&x=?", "AGhp"],
      );
      assert.deepEqual(seen.headers.filter(([header]) => header === "x-twice").map(([, value]) => value), ["1", "2"]);
      for (const method of ["GET", "PUT", "DELETE", "OPTIONS", "POST"]) {
        assert.equal((await (await call(method, "/debug/request")).json()).method, method);
      }
    });

    test("the log knows payments by id and nothing else of them", () => {
      assert.match(log, /payment created id=pay_[0-9a-f]{16}/);
      for (const secret of ["4242", "zoë", "u-1", "invoice"]) assert.ok(!log.includes(secret), log);
    });
  });
}
