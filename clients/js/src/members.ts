// Members of a JSON text by JSON pointer (RFC 6901), replaced in place: all other characters stay as they are, so that
// numbers beyond 2^53 and the order of members survive.

export interface Span {
  pointer: string;
  start: number;
  end: number;
}

// Of a text that JSON.parse has taken: a string, a bracket, a comma, a colon, or a bare word.
const TOKEN = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;

/** Where the values of `pointers` stand, as far as they are there. A member that stands twice on the way is refused. */
export function locate(json: string, pointers: readonly string[]): Span[] {
  JSON.parse(json);
  const tokens = [...json.matchAll(TOKEN)];
  const at = (token: number) => tokens[token]!.index;
  const is = (token: number, text: string) => tokens[token]?.[0] === text;
  const skip = (token: number): number => {
    let depth = 0;
    do {
      if (is(token, "{") || is(token, "[")) depth++;
      if (is(token, "}") || is(token, "]")) depth--;
      token++;
    } while (depth > 0);
    return token;
  };
  /** The token at which the member `name` of the value at `token` begins. */
  const step = (token: number, name: string): number | undefined => {
    const object = is(token, "{");
    if (!object && !is(token, "[")) return;
    let found: number | undefined;
    for (let item = token + 1, index = 0; !is(item, "}") && !is(item, "]"); index++) {
      const value = object ? item + 2 : item;
      if (name === (object ? JSON.parse(tokens[item]![0]) : String(index))) {
        if (found !== undefined) throw new Error("a member stands twice");
        found = value;
      }
      item = skip(value);
      if (is(item, ",")) item++;
    }
    return found;
  };
  return pointers.flatMap((pointer) => {
    const names = pointer.split("/").slice(1).map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
    const token = names.reduce<number | undefined>((token, name) => (token === undefined ? token : step(token, name)), 0);
    if (token === undefined) return [];
    const last = skip(token) - 1;
    return [{ pointer, start: at(token), end: at(last) + tokens[last]![0].length }];
  });
}

/** Replaces each span by what `replace` makes of its text; asked in the order of `spans`. */
export async function replaceSpans(
  json: string, spans: readonly Span[], replace: (value: string, pointer: string) => Promise<string>,
): Promise<string> {
  const replaced: (Span & { value: string })[] = [];
  for (const span of spans) {
    replaced.push({ ...span, value: await replace(json.slice(span.start, span.end), span.pointer) });
  }
  replaced.sort((a, b) => b.start - a.start); // from the back, so that the places before stay true
  return replaced.reduce((json, { start, end, value }) => json.slice(0, start) + value + json.slice(end), json);
}
