// The ranked gallery; only the visible cards are elements, whatever the number of galaxies.
import { byId, element, number, strongest } from "./dom.js";

const GAP = 10;
const LEAST_WIDTH = 218;
const HEIGHT = 107;
const MARGIN_ROWS = 2;

export class Gallery {
  constructor(survey, open) {
    this.survey = survey;
    this.open = open;
    this.frame = byId("gallery");
    this.inner = element("div", { class: "inner" });
    this.frame.append(this.inner);
    this.cards = new Map();
    this.current = 0;
    this.frame.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.layout()).observe(this.frame);
    survey.addEventListener("shown", () => this.restart());
    survey.addEventListener("labels", () => this.restart(false));
    this.frame.addEventListener("click", (event) => {
      const card = event.target.closest("[data-row]");
      if (!card) return;
      event.preventDefault();
      this.current = Number(card.dataset.place);
      open(Number(card.dataset.row));
    });
    this.frame.addEventListener("keydown", (event) => this.key(event));
    this.layout();
  }

  restart(toTop = true) {
    this.inner.replaceChildren();
    this.cards.clear();
    if (toTop) { this.current = 0; this.frame.scrollTop = 0; }
    this.layout();
  }

  layout() {
    const width = this.inner.clientWidth;
    if (!width) return;
    const columns = Math.max(1, Math.floor((width + GAP) / (LEAST_WIDTH + GAP)));
    if (columns !== this.columns || width !== this.width) { this.inner.replaceChildren(); this.cards.clear(); }
    [this.columns, this.width] = [columns, width];
    this.inner.style.height = `${Math.ceil(this.survey.shown.length / columns) * (HEIGHT + GAP)}px`;
    this.draw();
  }

  draw() {
    const step = HEIGHT + GAP;
    const first = Math.max(0, Math.floor(this.frame.scrollTop / step) - MARGIN_ROWS) * this.columns;
    const last = Math.min(
      this.survey.shown.length,
      (Math.ceil((this.frame.scrollTop + this.frame.clientHeight) / step) + MARGIN_ROWS) * this.columns,
    );
    for (const [place, card] of this.cards) if (place < first || place >= last) { card.remove(); this.cards.delete(place); }
    for (let place = first; place < last; place++) if (!this.cards.has(place)) this.add(place);
  }

  add(place) {
    const card = this.makeCard(place);
    const width = (this.width - GAP * (this.columns - 1)) / this.columns;
    const [x, y] = [(place % this.columns) * (width + GAP), Math.floor(place / this.columns) * (HEIGHT + GAP)];
    card.style.transform = `translate(${x}px, ${y}px)`;
    card.style.width = `${width}px`;
    card.style.height = `${HEIGHT}px`;
    this.cards.set(place, card);
    this.inner.append(card);
  }

  makeCard(place) {
    const { survey } = this;
    const row = survey.shown[place];
    const name = survey.names[row];
    const of = (column) => survey.value(column, row);
    const why = of("reason_1") ?? of("top_line") ?? "";
    const label = of("label");
    const lineSnr = strongest(of, true);
    const object = survey.objects[row];
    const repeats = survey.observations.get(object);
    const facts = [["score", of("score")], ["q", of("q_value")], ["z", of("z")], lineSnr ?? ["med. S/N", of("median_snr")]];
    if (survey.orderBy !== "rank" && !["score", "q_value", "z"].includes(survey.orderBy)) facts.unshift([survey.orderBy, of(survey.orderBy)]);
    const url = survey.thumbnail(name);
    const image = url ? element("img", { src: url, alt: "", width: 105, height: 105, loading: "lazy", decoding: "async" })
      : element("span", { class: "no-thumbnail", title: "This file does not contain its thumbnail" });
    const tags = [
      of("triage") && element("span", { class: "tag warn" }, of("triage")),
      ["yes", 1].includes(of("is_find")) && element("span", { class: "tag detection" }, "detection"),
      label && element("span", { class: "tag label" }, label),
      repeats > 1 && element("span", { class: "tag repeat", title: `One of ${repeats} observations of ${object} in this catalog` }, `${repeats} obs.`),
      !survey.source.holds(name) && element("span", { class: "tag", title: "This file contains only the catalog's row, without maps and spectra" }, "row only"),
    ];
    return element("div", { role: "listitem", class: "cell" },
      element("a", { class: "card", href: `#galaxy/${encodeURIComponent(name)}`, "data-row": row, "data-place": place,
        title: lineSnr && `S/N of ${of("strongest_line")}, the strongest line: ${number(lineSnr[1])}; median over all samples: ${number(of("median_snr"))}`,
        tabindex: place === this.current ? 0 : -1, "aria-label": `Rank ${of("rank")}, ${name}, score ${number(of("score"))}${label ? `, labelled ${label}` : ""}` },
      image,
      element("span", { class: "text" },
        element("span", { class: "title" },
          element("b", {}, element("span", { class: "rank num" }, String(of("rank"))), " ", name), element("span", { class: "tags" }, ...tags)),
        element("span", { class: "num facts" }, ...facts.filter(([, value]) => value !== null).map(([term, value]) => element("span", {}, element("span", { class: "soft" }, `${term} `), number(value, term === "q" ? 2 : 3)))),
        element("span", { class: "soft why", title: why }, why))));
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, j: 1, k: -1,
      Home: -Infinity, End: Infinity, PageDown: 4 * this.columns, PageUp: -4 * this.columns };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    this.focus(this.current + steps[event.key]);
  }

  focus(place) {
    if (!this.survey.shown.length) return;
    const target = Math.min(this.survey.shown.length - 1, Math.max(0, place));
    const top = Math.floor(target / this.columns) * (HEIGHT + GAP);
    if (top < this.frame.scrollTop) this.frame.scrollTop = top;
    const bottom = top + HEIGHT - this.frame.clientHeight;
    if (bottom > this.frame.scrollTop) this.frame.scrollTop = bottom;
    this.draw();
    this.cards.get(this.current)?.firstChild.setAttribute("tabindex", -1);
    this.current = target;
    const link = this.cards.get(target)?.firstChild;
    link?.setAttribute("tabindex", 0);
    link?.focus({ preventScroll: true });
  }
}
