// The galaxy's position on the sky: addresses of archives, and a survey image if the configuration names a survey.
import { element } from "./dom.js";

// Address from a template with {ra} and {dec}, in degrees; null if the position is unknown.
export function atPosition(template, { ra_deg: ra, dec_deg: dec }) {
  if (!Number.isFinite(ra) || !Number.isFinite(dec)) return null;
  return template.replaceAll("{ra}", ra.toFixed(6)).replaceAll("{dec}", dec.toFixed(6));
}

export function skyImage({ meta }, row) {
  if (!meta.sky_image) return null;
  const { url, name, credit, side_arcsec: side, host } = meta.sky_image;
  const src = atPosition(url, row);
  const missing = (text) => element("p", { class: "notice", role: "status" }, text);
  const image = src ? element("img", { src, referrerpolicy: "no-referrer", alt: `${name}: the sky at ${row.plateifu}, ${side}″ wide, north up, east left`, onerror: () => image.replaceWith(missing(`The image could not be fetched from ${host}.`)) })
    : missing("No image: the catalog has no position.");
  return element("figure", { class: "panel sky" }, element("figcaption", {}, element("b", {}, name), element("span", { class: "soft" }, `${side}″, N ↑ E ←`)), image,
    element("p", { class: "note" }, `Image: ${credit}; HiPS by CDS`));
}
