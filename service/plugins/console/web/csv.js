// Tables as CSV (RFC 4180) in which no cell becomes a spreadsheet's formula.

/** A cell; text that a spreadsheet would compute gets an apostrophe before it. */
function cell(value) {
  if (typeof value === "number") return String(value);
  const text = String(value ?? "");
  const safe = /^[\s]*[=+\-@|%]|^[\t\r\n]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

/** Lines of cells; begins with a byte order mark, without which Excel reads no UTF-8. */
export function csv(table) {
  return `\ufeff${table.map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`;
}
