// Data of the page from the server that served it.
import { unpack } from "./pack.js";

export class Served {
  exported = false;
  token = document.querySelector("meta[name=token]").content;
  cacheKey = document.querySelector("meta[name=cache-key]").content;

  survey = async () => unpack(await (await answer("/api/survey")).arrayBuffer());
  labels = async () => (await answer("/api/labels")).json();
  galaxy = async (plateifu) => unpack(await (await answer(`/api/galaxies/${encodeURIComponent(plateifu)}?v=${this.cacheKey}`)).arrayBuffer());
  addLabel = async (plateifu, label) => (await this.post("/api/labels", { plateifu, label })).json();
  selection = async (survey, names) => (await this.post("/api/selection", { plateifu: names })).blob();
  send = async (names, asTable) => (await (await this.post("/api/samp", { plateifu: names, as_table: asTable })).json()).message;
  thumbnail = (plateifu) => `/api/thumbnails/${encodeURIComponent(plateifu)}?v=${this.cacheKey}`;
  holds = () => true;

  post(path, body) {
    return answer(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Cubescout-Token": this.token },
      body: JSON.stringify(body),
    });
  }
}

async function answer(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is `cubescout explore --serve` still running?");
  }
  if (!response.ok) {
    const text = await response.text();
    let message = text;
    try { message = JSON.parse(text).error ?? text; } catch { /* plain text, shown as it is */ }
    throw new Error(message || `${response.status} ${response.statusText}`);
  }
  return response;
}
