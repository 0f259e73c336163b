// Rows as CSV (RFC 4180) for people and spreadsheets. Numbers have the digits of the page's float32, and no more.
export function csv(rows, guarded = true) {
  return rows.map((row) => row.map((value) => cell(value, guarded)).join(",")).join("\n") + "\n";
}

function cell(value, guarded) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return shortest(value);
  // As in cubeprep/csvtext.py: a spreadsheet runs no text as a formula, and a carriage return begins no row.
  const text = value.replace(/\r\n?/g, "\n").replace(/^(?=\s*[=+\-@＝＋－＠]|\t)/, guarded ? "'" : "");
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function shortest(value) {
  if (Math.fround(value) !== value) return String(value);
  for (let digits = 6; digits < 9; digits++) if (Math.fround(Number(value.toPrecision(digits))) === value) return String(Number(value.toPrecision(digits)));
  return String(Number(value.toPrecision(9)));
}
