// Elements and numbers. Text is inserted as text, so that nothing in a catalog is interpreted as markup.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// A number with its noun: 1 galaxy, 2 galaxies; the plural ends in s, or in ies for y.
export function counted(count, noun) {
  const plural = noun.endsWith("y") ? `${noun.slice(0, -1)}ies` : `${noun}s`;
  return `${count.toLocaleString("en")} ${count === 1 ? noun : plural}`;
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A column's name, which may break after an underscore.
export const breakable = (name) => name.split(/(?<=_)/).flatMap((part, i) => (i ? [element("wbr"), part] : [part]));

export const byId = (id) => document.getElementById(id);

const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

// A number with `digits` significant digits and a true minus sign; a dash if there is no value.
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  if (magnitude >= -4 && magnitude < 6) return value.toFixed(Math.max(0, digits - 1 - magnitude)).replace("-", "−");
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const raised = [...String(Number(exponent))].map((letter) => SUPERSCRIPT[letter]).join("");
  return `${mantissa} × 10${raised}`.replace("-", "−");
}

export const percent = (value) => (Number.isFinite(value) ? `${Math.round(100 * value)}%` : "–");

export function say(text, bad = false) {
  const line = byId("message");
  line.textContent = text;
  line.classList.toggle("bad", bad);
}

// Sends galaxies to other programs on this machine (SAMP), by the server: as a table, or each one's position.
export async function send(source, names, asTable) {
  try {
    say(await source.send(names, asTable));
  } catch (error) {
    say(error.message, true);
  }
}

// S/N of the strongest line with the line's name, if the catalog has it; the median S/N over samples would suggest a non-detection.
export function strongest(of, short = false) {
  const [snr, line] = [of("strongest_line_snr"), of("strongest_line")];
  return Number.isFinite(snr) && line ? [`S/N ${short ? line.split("-")[0] : line}`, snr] : null;
}
