// Columns of the catalog, and the galaxies shown, in order. Rows are numbered 0 .. count - 1, by rank.

export class Survey extends EventTarget {
  // `source`: Served or Embedded, which provides galaxies, thumbnails and labels.
  constructor(source, { meta, arrays }, labels) {
    super();
    this.source = source;
    this.meta = meta;
    this.columns = new Map(meta.columns.map((column) => [column.name, { ...column, data: arrays[column.name] }]));
    this.names = this.columns.get("plateifu").values;
    this.count = this.names.length;
    this.objects = this.columns.get("mangaid")?.values ?? [];
    this.observations = new Map();
    for (const object of this.objects) this.observations.set(object, (this.observations.get(object) ?? 0) + 1);
    this.rowOf = new Map(this.names.map((name, row) => [name, row]));
    this.filters = new Map();
    this.lasso = null;
    this.orderBy = "rank";
    this.reversed = false;
    this.setLabels(labels);
    this.update();
  }

  setLabels(labels) {
    this.labels = labels;
    const categories = [...new Set([...this.meta.labels, ...Object.values(labels).sort()])];
    this.keepLabelFilter(categories);
    const data = new Int32Array(this.count).fill(-1);
    for (const [name, label] of Object.entries(labels)) {
      if (this.rowOf.has(name)) data[this.rowOf.get(name)] = categories.indexOf(label);
    }
    const description = "Label given by a person";
    this.columns.set("label", { name: "label", group: "Labels", kind: "category", unit: "", description, categories, data });
    this.dispatchEvent(new Event("labels"));
  }

  // Each new label renumbers the categories: a filter keeps those of the same name.
  keepLabelFilter(categories) {
    const filter = this.filters.get("label");
    if (!filter) return;
    const before = this.columns.get("label").categories;
    const kept = [...filter.codes].filter((code) => code < 0 || categories.includes(before[code]));
    if (kept.length) this.filters.set("label", { codes: new Set(kept.map((code) => (code < 0 ? code : categories.indexOf(before[code])))) });
    else this.filters.delete("label");
  }

  // A galaxy's row of the catalog, without lists.
  rowValues(row) {
    return Object.fromEntries([...this.columns.keys()].filter((name) => name !== "label").map((name) => [name, this.value(name, row)]));
  }

  thumbnail(name) {
    return this.source.thumbnail(name);
  }

  // Value of a column in a row: a number or text; null if there is none.
  value(name, row) {
    const column = this.columns.get(name);
    if (!column) return null;
    if (column.kind === "number") return Number.isFinite(column.data[row]) ? column.data[row] : null;
    if (column.kind === "category") return column.data[row] < 0 ? null : column.categories[column.data[row]];
    return column.values[row] || null;
  }

  range(name) {
    const column = this.columns.get(name);
    if (!column.range) {
      let [low, high] = [Infinity, -Infinity];
      for (const value of column.data) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
      column.range = low <= high ? [low, high] : [0, 1];
    }
    return column.range;
  }

  // Filter: {low, high} for numbers, or {codes: Set} for categories, -1 for no category; null removes the filter.
  setFilter(name, filter) {
    if (filter) this.filters.set(name, filter);
    else this.filters.delete(name);
    this.update();
  }

  setLasso(rows) {
    this.lasso = rows;
    this.update();
  }

  setOrder(name, reversed) {
    this.orderBy = name;
    this.reversed = reversed;
    this.update();
  }

  passes(row) {
    for (const [name, filter] of this.filters) {
      const { data } = this.columns.get(name);
      if (filter.codes ? !filter.codes.has(data[row]) : !(data[row] >= filter.low && data[row] <= filter.high)) return false;
    }
    return true;
  }

  update() {
    this.passing = [];
    for (let row = 0; row < this.count; row++) if (this.passes(row)) this.passing.push(row);
    this.shown = this.lasso ? this.passing.filter((row) => this.lasso.has(row)) : [...this.passing];
    const { data } = this.columns.get(this.orderBy);
    const sign = this.reversed ? -1 : 1;
    const key = (row) => (Number.isFinite(data[row]) ? sign * data[row] : Infinity); // missing values come last in both orders
    this.shown.sort((a, b) => (key(a) === key(b) ? sign * (a - b) : key(a) - key(b)));
    this.dispatchEvent(new Event("shown"));
  }

  find(text) {
    const wanted = text.trim();
    if (this.rowOf.has(wanted)) return this.rowOf.get(wanted);
    const row = this.objects.indexOf(wanted);
    return row >= 0 ? row : null;
  }

  startingWith(text, most = 12) {
    const found = [];
    for (const name of this.names) if (name.startsWith(text) && found.push(name) >= most) break;
    return found;
  }
}
