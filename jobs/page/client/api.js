// Requests to the server that gave us this page.
import { unpack } from "./pack.js";

const token = document.querySelector("meta[name=token]").content;

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
    try { message = JSON.parse(text).error ?? text; } catch { /* plain text says it too */ }
    throw new Error(message || `${response.status} ${response.statusText}`);
  }
  return response;
}

const post = (path, body) => answer(path, {
  method: "POST",
  headers: { "Content-Type": "application/json", "X-Cubescout-Token": token },
  body: JSON.stringify(body),
});

export const getSurvey = async () => unpack(await (await answer("/api/survey")).arrayBuffer());
export const getGalaxy = async (plateifu, version) =>
  unpack(await (await answer(`/api/galaxies/${encodeURIComponent(plateifu)}?v=${version}`)).arrayBuffer());
export const getLabels = async () => (await answer("/api/labels")).json();
export const postLabel = async (plateifu, label) => (await post("/api/labels", { plateifu, label })).json();
export const postSelection = async (plateifu) => (await post("/api/selection", { plateifu })).blob();
export const thumbnailUrl = (plateifu, version) => `/api/thumbnails/${encodeURIComponent(plateifu)}?v=${version}`;
