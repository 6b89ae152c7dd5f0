// Columns of text side by side, for a terminal of 100 columns or more.

const GAP = " │ ";
const segments = new Intl.Segmenter("en");

/** Hard-wrapped: a line of base64 has no words. Continuations are indented like their line, and a little more. */
function wrap(text, width) {
  return text.split("\n").flatMap((line) => {
    const indent = " ".repeat(Math.min(/^ */.exec(line)[0].length + 2, width >> 1));
    const lines = [""];
    for (const { segment } of segments.segment(line)) {
      if ([...lines.at(-1)].length >= width) lines.push(indent);
      lines[lines.length - 1] += segment;
    }
    return lines;
  });
}

const pad = (text, width) => text + " ".repeat(Math.max(0, width - [...text].length));

/** `columns`: `{ title, text }`. Bold titles where the output is a terminal. */
export function sideBySide(columns, { width = 100, bold = false } = {}) {
  const each = Math.floor((width - GAP.length * (columns.length - 1)) / columns.length);
  const wrapped = columns.map(({ text }) => wrap(text, each));
  const titles = columns.map(({ title }) => {
    const padded = pad(title, each);
    return bold ? `\x1b[1m${padded}\x1b[0m` : padded;
  });
  const rows = Array.from({ length: Math.max(...wrapped.map((lines) => lines.length)) }, (_, row) =>
    wrapped.map((lines) => pad(lines[row] ?? "", each)).join(GAP).trimEnd(),
  );
  return [titles.join(GAP), columns.map(() => "─".repeat(each)).join("─┼─"), ...rows].join("\n");
}
