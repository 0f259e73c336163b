// Data of the page from the file itself, where jobs/page/export.py stored them. Labels stay in this browser.
import { csv } from "./csv.js";
import { unpack } from "./pack.js";

export class Embedded {
  exported = true;
  urls = new Map();

  async open() {
    const { meta, arrays } = await message("contents");
    this.galaxies = new Set(meta.galaxies);
    this.given = meta.labels;
    const { thumbnails, thumbnail_ends: ends } = arrays;
    this.images = new Map(meta.thumbnails.map((name, i) => [name, thumbnails.subarray(i ? ends[i - 1] : 0, ends[i])]));
    return this;
  }

  async survey() {
    const survey = await message("survey");
    this.key = `cubescout-labels-${survey.meta.version}`;
    this.own = stored(this.key);
    return survey;
  }

  async galaxy(plateifu) {
    if (document.readyState === "loading") await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
    return message(`galaxy-${plateifu}`);
  }

  holds(plateifu) { return this.galaxies.has(plateifu); }

  labels() { return { ...this.given, ...this.own }; }

  // An empty label withdraws one that was given here; only a command withdraws labels of the workspace.
  addLabel(plateifu, label) {
    if (!label && !(plateifu in this.own)) throw new Error(`This label is in the workspace; \`cubescout label CONFIG ${plateifu}=\` withdraws it.`);
    if (label) this.own[plateifu] = label;
    else delete this.own[plateifu];
    try {
      localStorage.setItem(this.key, JSON.stringify(this.own));
    } catch {
      this.volatile = true; // some browsers store nothing for files: the labels are lost when the tab is closed
    }
    return this.labels();
  }

  // Table for `cubescout label CONFIG --table FILE`.
  ownLabels() {
    return new Blob([csv([["plateifu", "label"], ...Object.entries(this.own)], false)], { type: "text/csv" });
  }

  selection(survey, names) {
    const columns = [...survey.columns.keys()];
    const rows = names.map((name) => columns.map((column) => survey.value(column, survey.rowOf.get(name))));
    return new Blob([csv([columns, ...rows])], { type: "text/csv" });
  }

  thumbnail(plateifu) {
    if (!this.urls.has(plateifu) && this.images.has(plateifu)) {
      this.urls.set(plateifu, URL.createObjectURL(new Blob([this.images.get(plateifu)], { type: "image/png" })));
    }
    return this.urls.get(plateifu) ?? null;
  }
}

function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "{}");
  } catch {
    return {};
  }
}

async function message(id) {
  const holder = document.getElementById(`message-${id}`);
  if (!holder) throw new Error(`This file does not hold ${id.replace("-", " ")}.`);
  const text = atob(holder.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return unpack(await new Response(plain).arrayBuffer());
}
