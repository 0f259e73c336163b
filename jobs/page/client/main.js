// Starts the page with data from a server or from the file itself. The address contains the galaxy that is shown.
import { about } from "./about.js";
import { byId, counted, element, say, send } from "./dom.js";
import { Embedded } from "./embedded.js";
import { Filters } from "./filters.js";
import { GalaxyView } from "./galaxy.js";
import { Gallery } from "./gallery.js";
import { LatentMap } from "./map.js";
import { columnOptions } from "./menu.js";
import { Served } from "./served.js";
import { Survey } from "./survey.js";

const source = byId("message-contents") ? await new Embedded().open() : new Served();
// First, since it names the catalog to which the labels belong.
const message = await source.survey().catch((error) => { say(error.message, true); throw error; });
const survey = new Survey(source, message, await source.labels());
const open = (row) => { location.hash = `galaxy/${encodeURIComponent(survey.names[row])}`; };
const gallery = new Gallery(survey, open);
const view = new GalaxyView(survey, byId("galaxy"));
new Filters(survey);
drawHead();
about(survey);
route();
document.documentElement.dataset.ready = "true";
requestAnimationFrame(() => requestAnimationFrame(() => new LatentMap(survey, open))); // after the gallery is on the screen

function drawHead() {
  const numbers = [...survey.columns.values()].filter((column) => column.kind === "number");
  byId("order").append(...columnOptions(survey, numbers));
  byId("order").value = "rank";
  const reorder = () => survey.setOrder(byId("order").value, byId("reverse").getAttribute("aria-pressed") === "true");
  byId("order").addEventListener("change", reorder);
  byId("reverse").addEventListener("click", () => {
    byId("reverse").setAttribute("aria-pressed", String(byId("reverse").getAttribute("aria-pressed") !== "true"));
    reorder();
  });
  survey.addEventListener("shown", count);
  byId("download").addEventListener("click", download);
  byId("send").hidden = !survey.meta.sends;
  byId("send").addEventListener("click", () => send(source, survey.shown.map((row) => survey.names[row]), true));
  byId("download-labels").hidden = !source.exported;
  byId("download-labels").addEventListener("click", downloadLabels);
  for (const button of document.querySelectorAll(".panes button")) button.addEventListener("click", () => showPane(button.dataset.pane));
  byId("search").addEventListener("submit", search);
  byId("search-id").addEventListener("input", (event) => {
    byId("search-list").replaceChildren(...survey.startingWith(event.target.value).map((name) => element("option", { value: name })));
  });
  count();
}

function count() {
  const all = survey.shown.length === survey.count;
  byId("count").textContent = all ? survey.count.toLocaleString("en") : `${survey.shown.length.toLocaleString("en")} of ${survey.count.toLocaleString("en")}`;
  byId("count-note").textContent = `${survey.shown.length === 1 ? "galaxy" : "galaxies"} by ${survey.orderBy === "rank" ? survey.meta.score_label : survey.orderBy}${source.exported ? `; this file holds maps and spectra of ${source.galaxies.size}` : ""}`;
  byId("lasso-clear").hidden = !survey.lasso;
}

async function download() {
  try {
    save(await source.selection(survey, survey.shown.map((row) => survey.names[row])), "cubescout-selection.csv");
    say(`${counted(survey.shown.length, "galaxy")} saved as CSV`);
  } catch (error) {
    say(error.message, true);
  }
}

function downloadLabels() {
  const count = Object.keys(source.own).length;
  if (!count) { say("No labels have been given here yet; open a galaxy to give one."); return; }
  save(source.ownLabels(), "labels.csv");
  say(`${counted(count, "label")} saved; cubescout label CONFIG --table labels.csv adds them to the workspace`);
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function search(event) {
  event.preventDefault();
  const text = byId("search-id").value.trim();
  if (!text) return;
  const row = survey.find(text);
  if (row === null) say(`${text}: no such galaxy in the catalog`, true);
  else { say(""); open(row); }
}

function showPane(name) {
  document.body.dataset.pane = name;
  for (const button of document.querySelectorAll(".panes button")) button.setAttribute("aria-pressed", String(button.dataset.pane === name));
}

function route() {
  const name = location.hash.startsWith("#galaxy/") ? decoded(location.hash.slice(8)) : null;
  byId("survey").hidden = name !== null;
  byId("galaxy").hidden = name === null;
  document.body.classList.toggle("one", name !== null);
  if (name === null) {
    document.title = "Cubescout";
    gallery.layout();
    if (view.plateifu) { gallery.focus(Math.max(0, survey.shown.indexOf(survey.rowOf.get(view.plateifu)))); view.plateifu = null; }
    return;
  }
  scrollTo(0, 0);
  view.show(name).then(() => byId("galaxy").querySelector("h2")?.focus({ preventScroll: true }));
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; } // such as a name with a percent sign, typed by hand
}

function step(by) {
  const place = survey.shown.indexOf(survey.rowOf.get(view.plateifu));
  const row = survey.shown[place + by];
  if (row !== undefined) open(row);
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#gallery") { byId("gallery").focus(); return; }
  route();
});
byId("galaxy").addEventListener("click", (event) => { const by = event.target.closest("[data-step]"); if (by) step(Number(by.dataset.step)); });
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape" && event.target === byId("search-id")) { event.target.blur(); return; }
  if (typing) return;
  const inGalaxy = !byId("galaxy").hidden;
  if (event.key === "/") { event.preventDefault(); byId("search-id").focus(); }
  else if (inGalaxy && event.key === "Escape") location.hash = "";
  else if (inGalaxy && (event.key === "j" || event.key === "ArrowRight")) step(1);
  else if (inGalaxy && (event.key === "k" || event.key === "ArrowLeft")) step(-1);
  else if (inGalaxy && /^[1-9]$/.test(event.key)) byId("galaxy").querySelectorAll(".labels .chip")[Number(event.key) - 1]?.click();
  // The map, or a card, handles left and right itself while it has the focus.
  else if (!inGalaxy && ["ArrowLeft", "ArrowRight"].includes(event.key) && document.activeElement === document.body) gallery.focus(gallery.current);
  else if (!inGalaxy && ["j", "k", "ArrowDown", "ArrowUp"].includes(event.key)) { event.preventDefault(); gallery.focus(gallery.current + (gallery.frame.contains(document.activeElement) ? (event.key === "j" || event.key === "ArrowDown" ? 1 : -1) : 0)); }
});
