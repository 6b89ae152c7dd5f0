// Members of any document stand where JSON.parse finds them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { locate, replaceSpans } from "../dist/members.js";

/** The same numbers on every run. */
function random(seed) {
  seed = Math.imul(seed + 1, 2654435761) >>> 0; // seeds beside each other start far apart
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
}

const NAMES = ["a", "b/c", "~", "", "0", "1", 'q"\\', "zoë", "__proto__"];

function document(next, depth) {
  const space = () => ["", " ", "\n\t"][next(3)];
  const join = (open, items, close) => open + items.map((item) => space() + item + space()).join(",") + (items.length ? "" : space()) + close;
  switch (depth > 0 ? next(7) : next(5)) {
    case 0: return ["true", "false", "null"][next(3)];
    case 1: return ["0", "-1.50e+3", "12345678901234567890"][next(3)];
    case 2: case 3: return JSON.stringify(["", "]}", '\\"{', "é\u2028"][next(4)]);
    case 4: return next(2) ? "[]" : "{ }";
    case 5: return join("[", Array.from({ length: next(4) }, () => document(next, depth - 1)), "]");
    default: {
      const names = NAMES.filter(() => next(3) === 0);
      return join("{", names.map((name) => `${JSON.stringify(name)}${space()}:${space()}${document(next, depth - 1)}`), "}");
    }
  }
}

/** Every pointer into a value, with what it points at. */
function* pointers(value, path = "") {
  if (path) yield [path, value];
  if (typeof value !== "object" || value === null) return;
  for (const name of Object.keys(value)) {
    yield* pointers(value[name], `${path}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`);
  }
}

test("in a thousand documents", async () => {
  let members = 0;
  for (let seed = 0; seed < 1000; seed++) {
    const text = document(random(seed), 4);
    for (const [pointer, value] of pointers(JSON.parse(text))) {
      members++;
      const [{ start, end }] = locate(text, [pointer]);
      assert.deepEqual(JSON.parse(text.slice(start, end)), value, `${pointer} of ${text}`);
      assert.deepEqual(locate(text, [`${pointer}/absent`]), []);
      const changed = await replaceSpans(text, locate(text, [pointer]), async () => "7");
      assert.equal(changed, `${text.slice(0, start)}7${text.slice(end)}`);
      JSON.parse(changed);
    }
  }
  assert.ok(members > 1000, `${members}`);
});

test("what is no JSON, or says a thing twice, is refused", () => {
  for (const text of ['{"a":1,"a":2}', '{"a":{"b":1,"\\u0062":2}}', "{", "", '{"a":1}}', "[1,]", "NaN"]) {
    assert.throws(() => locate(text, ["/a/b", "/a"]), text);
  }
});
