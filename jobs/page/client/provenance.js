// Provenance of a catalog, one entry per line.
import { element } from "./dom.js";

export function provenanceList(provenance, version) {
  const flat = (value, path) => (value !== null && typeof value === "object" ? Object.entries(value).flatMap(([name, inner]) => flat(inner, path ? `${path}.${name}` : name)) : [[path, String(value)]]);
  return element("dl", { class: "columns" }, ...[["catalog", version], ...flat(provenance, "")].flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}
