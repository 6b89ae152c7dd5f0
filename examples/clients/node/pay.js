// Pays, reads the payment back and cancels it, all of it sealed. It holds no key: the gateway's public one is fetched, or a
// session key of the caller's own.
//
//     TOKEN=… node pay.js https://127.0.0.1:8443 --profile hpke          (NODE_EXTRA_CA_CERTS for a private certificate)

import { parseArgs } from "node:util";
import { GapuraError, gapura } from "gapura";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { profile: { type: "string", default: "hpke" } },
});
const [baseUrl] = positionals;
if (baseUrl === undefined || !process.env.TOKEN) {
  console.error("usage: TOKEN=… node pay.js URL [--profile hpke | jwe | aes128gcm]");
  process.exit(2);
}

const fetch = gapura({
  baseUrl,
  encryption: "payments",
  profile: values.profile,
  headers: () => ({ Authorization: `Bearer ${process.env.TOKEN}` }),
});

try {
  const payment = { amount: 1999, currency: "EUR", card: "4242424242424242", reference: "Café Zoë, table 7" };
  const created = await fetch("/payments", { method: "POST", body: JSON.stringify(payment) });
  const place = created.headers.get("Location");
  console.log(created.status, await created.json());

  const read = await fetch(place);
  console.log(read.status, (await read.json()).status);

  const cancelled = await fetch(place, { method: "DELETE" });
  console.log(cancelled.status);

  // What the service itself refuses comes sealed, and is a response like any other.
  const refused = await fetch("/payments", { method: "POST", body: JSON.stringify({ ...payment, amount: -1 }) });
  console.log(refused.status, (await refused.json()).detail[0].loc);
} catch (error) {
  // What the gateway refuses, and what does not open.
  if (!(error instanceof GapuraError)) throw error;
  console.error(error.message, error.requestId ?? "");
  process.exitCode = 1;
}
