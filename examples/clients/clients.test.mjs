// The clients against the real gateway and the FastAPI example: every profile from Node and Python, and the page in Chromium.
//
//     node --test examples/clients/clients.test.mjs        (scripts/install.sh test --browser and cargo build first)

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { GapuraError, gapura } from "../../clients/js/dist/index.js";
import { root, startWorld } from "./world.mjs";

const run = promisify(execFile);
const { chromium } = createRequire(join(root, "clients/js/package.json"))("playwright-core");
const CARD = "4242424242424242";
const MEMBERS = ["/card/number", "/card/cvv", "/method"];
const PROFILES = ["hpke", "jwe", "aes128gcm"];
const python = join(root, ".venv/bin/python");

// What the example does not need and the clients can: another curve, members, the founding format under a delivered passphrase.
const MORE = `
[keyrings.curve]
kind     = "x25519"
versions = [{ id = "1", key = "env:CURVE_KEY", state = "active" }]

[encryption.curve]
profile  = ["hpke", "jwe"]
keyrings = ["curve"]

[encryption.cards]
profile  = ["hpke", "jwe", "aes128gcm"]
keyrings = ["bodies", "sessions"]
members  = ["/card/number", "/card/cvv", "/method"]

[encryption.founding-cards]
profile    = "cryptojs"
master_key = "env:MASTER_KEY"
members    = ["/card/number", "/method"]

[encryption.founding]
profile    = "cryptojs"
master_key = "env:MASTER_KEY"
mac        = "required"

${["curve", "founding", "cards", "founding-cards"]
  .map((name) => `[[routes]]\nname = "${name}"\npath = "/debug/request/${name}/**"\nupstream = "backend"\nauth = ["jwt.users"]\nencryption = "${name}"\n`)
  .join("\n")}
[[routes]]
name       = "echo"
path       = "/echo"
upstream   = "backend"
auth       = ["jwt.users"]
encryption = "cards"

[[routes]]
name       = "large"
path       = "/debug/request/large"
upstream   = "backend"
auth       = ["jwt.users"]
encryption = "payments"
max_body   = "16MiB"
`;

let world;
let token;
before(async () => {
  world = await startWorld(MORE);
  token = world.token({ sub: "u-1001", jti: "t-1", email: "alice@example.com" });
});
after(() => world?.stop());

/** A client in this process, and all that it put on the wire. */
function client(options) {
  const wire = [];
  const recorded = (url, init) => {
    wire.push(Buffer.concat([Buffer.from(url + JSON.stringify([...new Headers(init.headers)])), Buffer.from(init.body ?? "")]).toString("latin1"));
    return fetch(url, init);
  };
  const headers = () => ({ Authorization: `Bearer ${token}` });
  return { wire, fetch: gapura({ baseUrl: world.plain, encryption: "payments", headers, fetch: recorded, ...options }) };
}

/** The request as it reached the service; sent sealed under `options`. */
async function reached(path, options, init = { method: "POST", body: JSON.stringify({ card: CARD }) }) {
  const { wire, fetch } = client(options);
  const seen = await (await fetch(path, init)).json();
  assert.ok(wire.length > 0 && wire.every((request) => !request.includes(CARD)));
  return { ...seen, body: Buffer.from(seen.body_base64, "base64").toString(), headers: Object.fromEntries(seen.headers) };
}

describe("the examples", () => {
  for (const profile of PROFILES) {
    test(`node, ${profile}`, async () => {
      const pay = join(root, "examples/clients/node/pay.js");
      const env = { ...process.env, TOKEN: token, NODE_EXTRA_CA_CERTS: world.certificate };
      const { stdout } = await run(process.execPath, [pay, world.url, "--profile", profile], { env });
      assert.match(stdout, /^201 \{[^]*status: 'authorized'[^]*Café Zoë[^]*^200 authorized\n204\n422 \[ 'body', 'amount' \]\n$/m);
    });

    test(`python, ${profile}`, async () => {
      const pay = join(root, "examples/clients/python/pay.py");
      const env = { ...process.env, TOKEN: token, PYTHONPATH: join(root, "clients/python"), PYTHONIOENCODING: "utf-8" };
      const { stdout } = await run(python, [pay, world.url, "--profile", profile, "--ca", world.certificate], { env });
      assert.match(stdout, /^201 \{.*'status': 'authorized'.*Café Zoë.*\nauthorized\n204\n422 \['body', 'amount'\]\n$/);
    });
  }

  test("a gateway's refusal ends them with its code", async () => {
    const pay = join(root, "examples/clients/node/pay.js");
    const env = { ...process.env, TOKEN: world.token({ sub: "u-1", exp: 1 }), NODE_EXTRA_CA_CERTS: world.certificate };
    await assert.rejects(run(process.execPath, [pay, world.url], { env }), ({ stderr }) => /^CREDENTIALS_INVALID: .* \S+\n$/.test(stderr));
  });
});

describe("the package for JavaScript", () => {
  for (const options of [
    ...PROFILES.map((profile) => ({ profile })),
    { profile: "jwe", sessionKey: true },
  ]) {
    test(`${Object.values(options).join(" ")}: a megabyte, a query and no plaintext on the way`, async () => {
      const body = JSON.stringify({ card: CARD, text: "Zoë ".repeat(250_000) });
      const seen = await reached("/debug/request/large?q=a%20b&%7e", options, { method: "PUT", body });
      assert.ok(seen.body === body);
      assert.deepEqual([seen.query, seen.headers["content-type"], seen.headers["x-user-id"]], ["q=a%20b&%7e", "application/json", "u-1001"]);
      assert.equal(seen.headers["x-gapura-envelope"], undefined);
      const empty = await reached("/debug/request/large", options, { method: "GET" });
      assert.deepEqual([empty.method, empty.body, empty.headers["x-gapura-envelope"]], ["GET", "", undefined]);
    });
  }

  for (const profile of ["hpke", "jwe"]) {
    test(`${profile} over X25519`, async () => {
      const seen = await reached("/debug/request/curve/%63af%c3%a9", { profile, encryption: "curve" });
      assert.deepEqual([seen.body, seen.path], [JSON.stringify({ card: CARD }), "/debug/request/curve/caf%C3%A9"]);
    });
  }

  test("the founding format under a delivered passphrase, with a MAC", async () => {
    const seen = await reached("/debug/request/founding/x", { profile: "cryptojs", encryption: "founding" });
    assert.equal(seen.body, JSON.stringify({ card: CARD }));
    const empty = await reached("/debug/request/founding/x", { profile: "cryptojs", encryption: "founding" }, { method: "GET" });
    assert.equal(empty.method, "GET");
  });

  for (const profile of PROFILES) {
    test(`members, ${profile}`, async () => {
      const { wire, fetch } = client({ profile, encryption: "cards", members: MEMBERS });
      const body = `{ "amount": 19.990, "card": {"number":"${CARD}","holder":"Zoë"}, "big": 12345678901234567890 }`;
      const response = await fetch("/echo", { method: "POST", body });
      assert.equal(await response.text(), body);
      assert.ok(wire.every((request) => !request.includes(CARD)) && wire.at(-1).includes('"amount": 19.990'));

      // Nothing in the request to seal: the message in the header is what the response's members are sealed under.
      const seen = await (await fetch("/debug/request/cards/x?a=b")).json();
      assert.deepEqual([seen.method, seen.query], ["GET", "a=b"]);
    });
  }

  test("members, the founding format", async () => {
    const { wire, fetch } = client({ profile: "cryptojs", encryption: "founding-cards", members: ["/card/number", "/method"] });
    const body = `{ "amount": 19.990, "card": {"number":"${CARD}"} }`;
    const seen = await (await fetch("/debug/request/founding-cards/x", { method: "POST", body })).json();
    assert.deepEqual([seen.method, Buffer.from(seen.body_base64, "base64").toString()], ["POST", body]);
    assert.ok(wire.every((request) => !request.includes(CARD)));
  });

  test("a path is one, however it is spelled, also where a key is asked for it", async () => {
    for (const profile of PROFILES) {
      const response = await client({ profile }).fetch("/payments/caf%c3%a9%20x+y%7e");
      assert.deepEqual([response.status, await response.json()], [404, { detail: "no such payment" }]);
    }
  });

  test("a message that comes twice, or for another place, is refused by the gateway", async () => {
    let sent;
    const kept = (url, init) => fetch(url, (sent = init));
    const own = gapura({ baseUrl: world.plain, encryption: "payments", headers: () => ({ Authorization: `Bearer ${token}` }), fetch: kept });
    await own("/payments", { method: "POST", body: JSON.stringify({ amount: 1, currency: "EUR", card: CARD }) });
    for (const [path, code] of [["/payments", "ENVELOPE_REPLAYED"], ["/payments?x=1", "DECRYPTION_FAILED"]]) {
      const response = await fetch(world.plain + path, sent);
      assert.equal((await response.json()).code, code);
    }
  });

  test("a caller who is not whom the token names gets nowhere", async () => {
    const { fetch } = client({ subject: "u-1002", tokenId: "t-1" });
    await assert.rejects(fetch("/payments"), (error) => error instanceof GapuraError && error.code === "DECRYPTION_FAILED");
  });
});

test("the package for Python: X25519, ChaCha20-Poly1305, A256KW, members, the founding format", async () => {
  const script = join(root, "clients/python/tests/live.py");
  const env = { ...process.env, TOKEN: token, PYTHONPATH: join(root, "clients/python") };
  const { stdout } = await run(python, [script, world.plain], { env });
  assert.equal(stdout, "all as it was sent\n");
});

test("a key is replaced under clients that still hold the old one", async () => {
  const clients = PROFILES.map((profile) => client({ profile }));
  for (const { fetch } of clients) assert.equal((await fetch("/payments")).status, 200);
  const kids = async () => (await (await fetch(`${world.plain}/.well-known/gapura/keys`)).json()).keys.map(({ kid }) => kid);
  await world.reload(
    (text) => text.replace(/\[(\{ id = "2026-11", key = "env:BODIES_KEY", state = )"active" \}\]/, '[$1"revoked" }, { id = "2026-12", key = "env:NEXT_KEY", state = "active" }]'),
    async () => (await kids()).includes("bodies.2026-12"),
  );
  assert.ok(!(await kids()).includes("bodies.2026-11"));
  for (const { fetch } of clients) assert.equal((await fetch("/payments")).status, 200);
  const sent = (path) => clients.map(({ wire }) => wire.filter((request) => request.startsWith(`${world.plain}${path}[`)).length);
  // hpke and jwe: refused once, another key, sent anew. A session key is of another ring, and lives on.
  assert.deepEqual([sent("/payments"), sent("/.well-known/gapura/keys")], [[3, 3, 2], [2, 2, 0]]);
});

describe("the page in Chromium", () => {
  let browser;
  before(async () => {
    // This one certificate, by its key: nothing else about verification is switched off.
    const { publicKey } = new X509Certificate(readFileSync(world.certificate));
    const pin = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [`--ignore-certificate-errors-spki-list=${pin}`, ...(process.getuid() === 0 ? ["--no-sandbox"] : [])],
    });
  });
  after(() => browser?.close());

  for (const profile of PROFILES) {
    test(profile, async () => {
      const page = await browser.newPage();
      const errors = [];
      page.on("pageerror", (error) => errors.push(error.message));
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      const posted = [];
      page.on("request", (request) => request.method() === "POST" && posted.push(request));
      await page.goto(`${world.url}/app/`);
      await page.fill("[name=token]", token);
      await page.selectOption("[name=profile]", profile);
      await page.click("button");
      await page.waitForSelector("#result[data-status]");
      const opened = await page.textContent("#opened");
      assert.equal(await page.getAttribute("#result", "data-status"), "201", opened);
      assert.deepEqual([JSON.parse(opened).status, JSON.parse(opened).card_last4], ["authorized", "4242"]);
      const payment = posted.find((request) => new URL(request.url()).pathname === "/payments");
      assert.ok(!payment.postDataBuffer().includes(CARD) && !(await page.textContent("#answer")).includes("authorized"));

      // What the service refuses is opened like any other answer.
      await page.fill("[name=card]", "4242424242424241");
      await page.click("button");
      await page.waitForSelector("#result[data-status='422']");
      const refusals = errors.filter((text) => !text.includes("422"));
      assert.deepEqual(refusals, []);
      await page.close();
    });
  }
});
