// Data of the page from the server that served it.
import { unpack } from "./pack.js";

const KEPT = "cubescout-token";
const FRAGMENT = /^#token=([\w-]+)$/;

export class Served {
  exported = false;
  token = secret();

  // The first request: its answer has the key of all addresses whose contents the browser keeps.
  async survey() {
    const response = await this.get("/api/survey");
    this.key = response.headers.get("X-Cubescout-Key");
    return unpack(await response.arrayBuffer());
  }

  labels = async () => (await this.get("/api/labels")).json();
  galaxy = async (plateifu) => unpack(await (await this.get(`/api/galaxies/${encodeURIComponent(plateifu)}?v=${this.key}`)).arrayBuffer());
  addLabel = async (plateifu, label) => (await this.post("/api/labels", { plateifu, label })).json();
  selection = async (survey, names) => (await this.post("/api/selection", { plateifu: names })).blob();
  send = async (names, asTable) => (await (await this.post("/api/samp", { plateifu: names, as_table: asTable })).json()).message;
  thumbnail = (plateifu) => `/api/thumbnails/${encodeURIComponent(plateifu)}?v=${this.key}`;
  holds = () => true;

  get(path) { return answer(path, { headers: { "X-Cubescout-Token": this.token } }); }

  post(path, body) {
    return answer(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Cubescout-Token": this.token },
      body: JSON.stringify(body),
    });
  }
}

// The server's secret, from the fragment of the address that was printed. It is kept for this server's host and port;
// a cookie would be sent to other ports, too.
function secret() {
  const given = FRAGMENT.exec(location.hash)?.[1];
  // An address that is opened in this tab, of a server started anew, differs in its fragment alone.
  window.addEventListener("hashchange", () => { if (FRAGMENT.test(location.hash)) location.reload(); });
  try {
    if (given) localStorage.setItem(KEPT, given);
    else return localStorage.getItem(KEPT) ?? "";
  } catch { /* a browser that stores nothing: the secret lasts until the page is loaded again */ }
  if (given) history.replaceState(null, "", location.pathname);
  return given ?? "";
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
