// An OpenID Connect provider on loopback: panva's, with a resource server whose access tokens are JWTs (RFC 9068, RFC 8707).
//   node oidc.js CERT KEY ALGORITHM
// The first line on standard output is its issuer. A line on standard input is a command, answered by one line: `token` gets one by the client
// credentials grant, over TLS; `rotate` gives the provider a new key; `well`, `error`, `garbage`, `slow` are what its metadata and keys are then.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";
import { createInterface } from "node:readline";
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";

// Its advice for production; standard output is for answers.
console.info = console.error;

const [certFile, keyFile, algorithm] = process.argv.slice(2);
const [cert, key] = [readFileSync(certFile), readFileSync(keyFile)];
const RESOURCE = "urn:gapura:payments";
let [mode, provider, keys] = ["well", undefined, []];

async function rotate(issuer) {
  const { privateKey } = await generateKeyPair(algorithm, { extractable: true });
  const jwk = await exportJWK(privateKey);
  const kid = createHash("sha256").update(JSON.stringify(jwk)).digest("hex").slice(0, 12);
  keys = [{ ...jwk, kid, alg: algorithm, use: "sig" }];
  provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{ client_id: "shop", client_secret: "shop-secret", grant_types: ["client_credentials"], redirect_uris: [], response_types: [] }],
    enabledJWA: { idTokenSigningAlgValues: [algorithm] },
    clientDefaults: { id_token_signed_response_alg: algorithm },
    extraTokenClaims: () => ({ sub: "shop", roles: ["clerk"] }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: "READ WRITE",
          audience: RESOURCE,
          accessTokenTTL: 300,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
  });
  return kid;
}

const server = https.createServer({ cert, key }, (request, response) => {
  const published = request.method === "GET";
  if (published && mode === "slow") return undefined;
  if (published && mode === "error") return response.writeHead(503).end();
  if (published && mode === "garbage") return response.end("<html>Sign in</html>");
  return provider.callback()(request, response);
});

function token(issuer) {
  const form = new URLSearchParams({ grant_type: "client_credentials", scope: "READ WRITE", resource: RESOURCE }).toString();
  const headers = { "content-type": "application/x-www-form-urlencoded", "content-length": form.length };
  return new Promise((resolve, reject) => {
    const request = https.request(`${issuer}/token`, { method: "POST", auth: "shop:shop-secret", headers, rejectUnauthorized: false });
    request.on("error", reject).on("response", async (response) => {
      let body = "";
      for await (const chunk of response) body += chunk;
      resolve(JSON.parse(body).access_token ?? `no token: ${body}`);
    });
    request.end(form);
  });
}

server.listen(0, "127.0.0.1", async () => {
  const issuer = `https://localhost:${server.address().port}`;
  await rotate(issuer);
  process.stdout.write(`${issuer}\n`);
  for await (const line of createInterface({ input: process.stdin })) {
    let said = line;
    if (line === "token") said = await token(issuer);
    else if (line === "rotate") said = await rotate(issuer);
    else mode = line;
    process.stdout.write(`${said}\n`);
  }
  process.exit();
});
