"use strict";
// Sorts and filters the tables, draws the curves, and marks the section in view.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// -- tables ---------------------------------------------------------------------------------------

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text.replace(/,/g, ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

// Empty cells come last either way; numbers come before texts.
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return sign * (typeof a === "number" ? -1 : 1);
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
}

function sortable(table) {
  const body = table.tBodies[0];
  for (const head of table.tHead.rows[0].cells) {
    if ("fixed" in head.dataset) continue;
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [valueOf(row, head.cellIndex), row]);
      rows.sort((a, b) => compare(a[0], b[0], down ? -1 : 1));
      body.append(...rows.map((pair) => pair[1]));
    });
  }
}

function filterable(table) {
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
  const words = texts.map((text) => new Set(text.split(/\s+/)));
  const what = table.dataset.filter;
  const input = element("input", { type: "search", autocomplete: "off" });
  const count = element("span", { role: "status" });
  const label = element("label", {}, `Filter ${what} by words; =word is a whole one`, input);
  table.parentElement.before(element("div", { class: "tools" }, label, count));
  const apply = () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !wanted.every((w) => (w[0] === "=" ? words[i].has(w.slice(1)) : texts[i].includes(w)));
      shown += !row.hidden;
    });
    count.textContent = `${shown} of ${rows.length} ${what}`;
  };
  input.addEventListener("input", apply);
  apply();
  for (const link of document.querySelectorAll(`[data-find][href="#${table.closest("section").id}"]`)) {
    link.addEventListener("click", () => {
      input.value = link.dataset.find;
      apply();
    });
  }
}

// -- curves ---------------------------------------------------------------------------------------

const LOOKS = JSON.parse(document.getElementById("looks").textContent);
const ALL = "all";

function ticks(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((s) => s * power >= rough) * power;
  const found = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-9; t += step) {
    found.push(Number(t.toPrecision(12)));
  }
  return found;
}

function plot(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  if (!data.series.length) {
    root.append(element("p", { class: "note" }, "Nothing of the kind was run."));
    return;
  }
  const select = (title, values, value) => {
    const box = element("select", {}, ...values.map((v) => new Option(v, v, false, v === value)));
    return [box, element("label", {}, title, box)];
  };
  const fields = data.fields.map((title, i) => {
    const values = [...new Set(data.series.map((s) => s.fields[i]))];
    return select(title, [ALL, ...values], data.start[i]);
  });
  const measure = element("select", {}, ...data.y.map(([key, title]) => new Option(title, key)));
  const pick = element("select", {});
  const tools = element("div", { class: "tools" }, element("label", {}, "Shown", measure));
  tools.append(...fields.map(([, label]) => label));
  const status = element("span", { role: "status" });
  const svg = drawn("svg", { role: "img" });
  const legend = element("div", { class: "legend" });
  const readout = element("p", { class: "readout", "aria-live": "polite" });
  const below = element("div", { class: "tools" }, element("label", {}, "Line", pick), status);
  root.append(tools, svg, legend, below, readout);

  const titles = Object.fromEntries(data.y);
  let shown = [];
  let points = [];
  let layer = null;

  const matches = (series) => fields.every(([box], i) => box.value === ALL || box.value === series.fields[i]);

  function draw() {
    shown = data.series.filter((s) => matches(s) && s.lines[measure.value][1].some((y) => y !== null));
    const lines = shown.map((s) => {
      const [grid, ys] = s.lines[measure.value];
      return ys.map((y, i) => [data.grids[grid][i], y]).filter((p) => p[1] !== null);
    });
    const every = lines.flat();
    const range = (i) => every.reduce(([a, b], p) => [Math.min(a, p[i]), Math.max(b, p[i])], [Infinity, -Infinity]);
    const width = Math.max(280, root.clientWidth);
    const height = Math.round(Math.min(400, 180 + width / 4));
    const [left, right, top, bottom] = [52, 12, 26, 40];
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", `${shown.length} lines: ${titles[measure.value]} against ${data.x}`);
    svg.replaceChildren();
    status.textContent = `${shown.length} of ${data.series.length} lines`;
    pick.replaceChildren(new Option("none", -1), ...shown.map((s, i) => new Option(s.name, i)));
    readout.replaceChildren();
    points = [];
    legend.replaceChildren();
    if (!every.length) {
      svg.append(drawn("text", { x: left, y: height / 2 }, "No line has these values."));
      return;
    }
    const [x0, x1] = range(0);
    let [y0, y1] = range(1);
    const pad = 0.04 * (y1 - y0 || 1);
    [y0, y1] = [y0 - pad, y1 + pad];
    const atX = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
    const atY = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);
    for (const t of ticks(y0, y1, 5)) {
      svg.append(drawn("path", { class: "grid", d: `M${left} ${atY(t)}H${width - right}` }));
      svg.append(drawn("text", { x: left - 8, y: atY(t) + 4, "text-anchor": "end" }, t));
    }
    for (const t of ticks(x0, x1, width < 500 ? 4 : 8)) {
      svg.append(drawn("text", { x: atX(t), y: height - bottom + 18, "text-anchor": "middle" }, t));
    }
    svg.append(drawn("text", { x: left, y: 14 }, titles[measure.value]));
    svg.append(drawn("text", { x: width - right, y: height - 4, "text-anchor": "end" }, data.x));
    layer = drawn("g", { class: "series" });
    lines.forEach((line, i) => {
      const look = `look-${shown[i].look}`;
      const places = line.map(([x, y]) => [atX(x), atY(y)]);
      places.forEach(([px, py], j) => points.push([px, py, i, line[j]]));
      if (places.length === 1) layer.append(drawn("circle", { class: look, cx: places[0][0], cy: places[0][1], r: 3 }));
      else layer.append(drawn("path", { class: look, d: "M" + places.map((p) => p.map((v) => v.toFixed(1)).join(" ")).join("L") }));
    });
    svg.append(layer);
    for (const look of Object.keys(LOOKS).filter((name) => shown.some((s) => s.look === name))) {
      const swatch = drawn("svg", { viewBox: "0 0 28 8", "aria-hidden": "true" });
      swatch.append(drawn("path", { class: `look-${look}`, d: "M0 4H28" }));
      legend.append(element("span", {}, swatch, LOOKS[look]));
    }
  }

  function mark(i, point) {
    if (!layer) return;
    [...layer.children].forEach((path, j) => path.classList.toggle("hot", i === j));
    layer.classList.toggle("picked", i >= 0);
    readout.replaceChildren();
    if (i < 0) return;
    const series = shown[i];
    const ys = series.lines[measure.value][1].filter((y) => y !== null);
    const value = point ? `${point[1]} at ${point[0]}` : `ends at ${ys.at(-1)}`;
    readout.append(`${series.fields.slice(0, 3).join(", ")}: ${series.name}: ${value}`);
    if (series.path) readout.append(" (", element("a", { href: `runs/${series.path}/result.json` }, "record"), ")");
  }

  fields.forEach(([box], changed) =>
    box.addEventListener("change", () => {
      // A choice that leaves nothing takes back what else was chosen.
      for (const [i, [other]] of fields.entries()) {
        if (i !== changed && !data.series.some(matches)) other.value = ALL;
      }
      draw();
    }),
  );
  measure.addEventListener("change", draw);
  pick.addEventListener("change", () => mark(Number(pick.value)));
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = null;
    let least = 30 ** 2;
    for (const place of points) {
      const distance = (place[0] - x) ** 2 + (place[1] - y) ** 2;
      if (distance < least) [least, best] = [distance, place];
    }
    if (best && Number(pick.value) !== best[2]) pick.value = best[2];
    if (best) mark(best[2], best[3]);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  let last = 0;
  new ResizeObserver(() => {
    if (root.clientWidth && root.clientWidth !== last) draw();
    last = root.clientWidth;
  }).observe(root);
}

// -- the page -------------------------------------------------------------------------------------

for (const table of document.querySelectorAll("table[data-sort]")) sortable(table);
for (const table of document.querySelectorAll("table[data-filter]")) filterable(table);
for (const root of document.querySelectorAll("[data-plot]")) plot(root);

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", reveal);
reveal();

const links = new Map([...document.querySelectorAll("nav li a")].map((a) => [a.hash.slice(1), a]));
const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((e) => e.isIntersecting)) {
      for (const [id, link] of links) {
        link.classList.toggle("here", id === entry.target.id);
        link.toggleAttribute("aria-current", id === entry.target.id);
      }
    }
  },
  { rootMargin: "-10% 0px -85% 0px" },
);
for (const id of links.keys()) seen.observe(document.getElementById(id));
