// A wire tap on the loopback between gateway and service: passes bytes both ways and, until told to stop, keeps a copy of
// what goes to the service. So the demonstration shows what was really sent, and the service needs no change for it.

import { connect, createServer } from "node:net";

const MAX_RECORDED_BYTES = 1024 * 1024;

/** Listens on a free port before the server at `port`. `find(text)` gives the first recorded request containing `text`. */
export async function tap(port) {
  const recordings = []; // one per connection: chunks
  let recorded = 0;
  let recording = true;

  const server = createServer((gateway) => {
    const service = connect(port, "127.0.0.1");
    const chunks = [];
    recordings.push(chunks);
    gateway.on("data", (chunk) => {
      if (!recording || recorded + chunk.length > MAX_RECORDED_BYTES) return;
      recorded += chunk.length;
      chunks.push(chunk);
    });
    gateway.pipe(service).pipe(gateway);
    // When either side goes, so does the other.
    gateway.on("error", () => service.destroy()).on("close", () => service.destroy());
    service.on("error", () => gateway.destroy()).on("close", () => gateway.destroy());
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));

  return {
    port: server.address().port,
    find(text) {
      for (const chunks of recordings) {
        const request = requests(Buffer.concat(chunks)).find(({ head }) => head.includes(text));
        if (request !== undefined) return request;
      }
      return undefined;
    },
    /** From here on nothing is kept, and what was kept is gone. */
    forget() {
      recording = false;
      recordings.length = 0;
    },
  };
}

/** The HTTP/1.1 requests on one connection. The gateway gives every body an exact Content-Length. */
function requests(bytes) {
  const found = [];
  let start = 0;
  for (;;) {
    const end = bytes.indexOf("\r\n\r\n", start);
    if (end < 0) return found;
    const head = bytes.subarray(start, end).toString("utf8");
    const length = Number(/^content-length: *([0-9]+)$/im.exec(head)?.[1] ?? 0);
    start = end + 4 + length;
    found.push({ head, body: bytes.subarray(end + 4, start).toString("utf8") });
  }
}
