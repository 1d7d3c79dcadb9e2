// The map and the chart.

import { remembered, seen } from "./rates.js";
import { table } from "./table.js";
import { $, bitsText, clean, condition, draw, make, milliseconds, percent, plural, rateOf, write } from "./text.js";

export const namedLimit = 12; // peers whose names stand upright
const ringLimit = 40; // peers that the map shows with their names

// ---- the map: a ring of peers with their names, or, of many, a grid

export const map = { shape: "", marks: new Map(), order: [], picked: null, peers: new Map() };

export const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : 1);

export function drawMap(status, peers) {
  const svg = $("map");
  const size = { width: svg.clientWidth || 640, height: svg.clientHeight || 420 };
  peers = [...peers].sort(byName);
  map.peers = new Map(peers.map((p) => [p.id, p]));
  map.order = peers.map((p) => p.id);
  const grid = peers.length > ringLimit;
  const shape = JSON.stringify([size, peers.map((p) => [p.id, p.name]), status.node.name]);
  if (shape !== map.shape) {
    map.shape = shape;
    map.marks = new Map();
    svg.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    svg.replaceChildren();
    if (grid) layGrid(svg, size, peers);
    else layRing(svg, size, peers, status.node.name);
    drawLegend(grid);
  }
  for (const p of peers) paint(map.marks.get(p.id), p, grid);
  const up = peers.filter((p) => condition(p).kind === "up").length;
  svg.setAttribute("aria-label", `Map: ${plural(peers.length, "peer")}, ${up} up. Arrow keys go from one to the next; the table of peers says the same.`);
  pick(map.picked);
}

function paint(mark, p, grid) {
  const { kind } = condition(p);
  const rate = (rateOf(p, "sent") ?? 0) + (rateOf(p, "received") ?? 0);
  const load = Math.min(1, Math.max(0, Math.log10(rate / 1000) / 7)); // of 1 kb/s to 10 Gb/s
  mark.dot.setAttribute("class", `dot ${kind}`);
  if (grid) {
    mark.dot.setAttribute("fill-opacity", kind === "up" ? (0.3 + 0.7 * load).toFixed(2) : 1);
    return;
  }
  mark.way.setAttribute("class", `way ${p.mode || "none"} ${kind === "bad" ? "bad" : ""}`);
  mark.way.setAttribute("stroke-width", (1.5 + 5 * load).toFixed(1));
  if (mark.sub) write(mark.sub, kind === "up" || kind === "static" ? [p.mode, milliseconds(p.rttUs)].filter(Boolean).join(" · ") : condition(p).label);
}

const shorten = (s, letters) => {
  const all = [...clean(s)];
  return all.length > letters ? `${all.slice(0, Math.max(1, letters - 1)).join("")}…` : all.join("");
};

function layRing(svg, { width, height }, peers, self) {
  const centre = { x: width / 2, y: height / 2 };
  const upright = peers.length <= namedLimit;
  const outside = Math.min(130, width * 0.3);
  const radius = upright ? { x: centre.x - outside, y: centre.y - 48 } : { x: Math.min(centre.x, centre.y) - 84, y: Math.min(centre.x, centre.y) - 84 };
  const letters = upright ? Math.floor((outside - 20) / 7) : 11;
  const first = peers.length <= 2 ? 0 : -Math.PI / 2;
  const ways = draw("g");
  svg.append(ways);
  peers.forEach((p, i) => {
    const angle = first + (2 * Math.PI * i) / peers.length;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const [x, y] = [centre.x + radius.x * cos, centre.y + radius.y * sin];
    const way = draw("line", { x1: centre.x, y1: centre.y, x2: x, y2: y });
    ways.append(way);
    const g = draw("g", { "data-id": p.id });
    const dot = draw("circle", { cx: x, cy: y, r: upright ? 8 : 6 });
    g.append(draw("circle", { class: "hit", cx: x, cy: y, r: 16 }), dot);
    let sub = null;
    if (upright) {
      const top = Math.abs(cos) < 0.3;
      const at = top ? { x, y: y + (sin < 0 ? -30 : 26), "text-anchor": "middle" } : { x: x + Math.sign(cos) * 18, y: y - 2, "text-anchor": cos > 0 ? "start" : "end" };
      const name = draw("text", at);
      name.textContent = shorten(p.name, top ? 24 : letters);
      sub = draw("text", { ...at, y: at.y + 14, class: "sub" });
      g.append(name, sub);
    } else {
      const left = cos < -1e-9;
      const degrees = (angle * 180) / Math.PI + (left ? 180 : 0);
      const name = draw("text", { transform: `translate(${x + 13 * cos} ${y + 13 * sin}) rotate(${degrees})`, "text-anchor": left ? "end" : "start", dy: 4 });
      name.textContent = shorten(p.name, letters);
      g.append(name);
    }
    svg.append(g);
    map.marks.set(p.id, { g, dot, way, sub });
  });
  svg.append(draw("circle", { class: "dot self", cx: centre.x, cy: centre.y, r: 12 }));
  const name = draw("text", { x: centre.x, y: centre.y + 30, "text-anchor": "middle" });
  name.textContent = peers.length ? shorten(self, 18) : "no other node is known";
  if (upright) svg.append(name);
}

function layGrid(svg, { width, height }, peers) {
  let step = Math.min(36, Math.floor(Math.sqrt((width * height) / peers.length)));
  while (step > 6 && Math.floor(width / step) * Math.floor(height / step) < peers.length) step--;
  const columns = Math.floor(width / step);
  const rows = Math.ceil(peers.length / columns);
  const [left, top] = [(width - columns * step) / 2, Math.max(0, (height - rows * step) / 2)];
  const r = Math.max(2, step / 2 - 5);
  peers.forEach((p, i) => {
    const [x, y] = [left + ((i % columns) + 0.5) * step, top + (Math.floor(i / columns) + 0.5) * step];
    const g = draw("g", { "data-id": p.id });
    const dot = draw("circle", { cx: x, cy: y, r });
    g.append(draw("rect", { class: "hit", x: x - step / 2, y: y - step / 2, width: step, height: step }), dot);
    svg.append(g);
    map.marks.set(p.id, { g, dot });
  });
}

function drawLegend(grid) {
  const item = (text, ...shapes) => {
    const svg = draw("svg", { viewBox: "0 0 24 12", "aria-hidden": "true" });
    svg.append(...shapes);
    return make("li", "", svg, text);
  };
  const dot = (kind) => draw("circle", { class: `dot ${kind}`, cx: 12, cy: 6, r: 4 });
  const way = (mode) => draw("line", { class: `way ${mode}`, x1: 0, y1: 6, x2: 24, y2: 6, "stroke-width": 2 });
  const states = [item("up", dot("up")), item("grace", dot("warn")), item("down, or no data", dot("bad")), item("left", dot("off"))];
  const ways = grid ? [make("li", "", "stronger: more traffic")] : [item("direct", way("direct")), item("udp", way("udp")), item("vxlan", way("vxlan")), make("li", "", "wider: more traffic")];
  $("legend").replaceChildren(...states, ...ways);
}

// pick shows all that is known of one peer below the map, and marks it there and in the table.
function pick(id) {
  if (!map.peers.has(id)) id = null;
  if (id !== map.picked) {
    for (const marked of document.querySelectorAll(".picked")) marked.classList.remove("picked");
    map.picked = id;
  }
  const p = map.peers.get(id);
  if (!p) {
    write($("pick"), map.peers.size ? "Point at a node, or go from one to the next with the arrow keys." : "");
    return;
  }
  map.marks.get(id).g.classList.add("picked");
  table.rows.get(id)?.row.classList.add("picked");
  const facts = [condition(p).label, p.mode, milliseconds(p.rttUs), p.loss > 0 ? `${percent(p.loss)} lost` : "", p.pathMTU ? `path MTU ${p.pathMTU}` : ""];
  if (p.mode && p.mode !== "direct") facts.push(`${bitsText(rateOf(p, "sent"))} out`, `${bitsText(rateOf(p, "received"))} in`);
  const text = `${p.name} · ${facts.filter(Boolean).join(" · ")}`;
  if ($("pick").textContent !== clean(text)) $("pick").replaceChildren(make("b", "", p.name), clean(text.slice(p.name.length)));
}

$("map").addEventListener("pointerover", (event) => {
  const g = event.target.closest("[data-id]");
  if (g) pick(g.dataset.id);
});
$("map").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || !map.order.length) return;
  event.preventDefault();
  const at = map.order.indexOf(map.picked);
  pick(map.order[at < 0 ? 0 : (at + step + map.order.length) % map.order.length]);
});

// ---- the chart

// ceiling is the least of 1, 2 and 5 times a power of ten that is not below rate.
function ceiling(rate) {
  const power = 10 ** Math.floor(Math.log10(rate));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rate * 0.999) ?? 10 * power;
}

export function drawChart() {
  const svg = $("chart");
  const [width, height] = [svg.clientWidth || 440, svg.clientHeight || 196];
  const plot = { left: 0, right: width - 68, top: 8, bottom: height - 22 };
  const top = ceiling(Math.max(10000, ...seen.history.map((h) => Math.max(h.sent ?? 0, h.received ?? 0))));
  const x = (i) => plot.right - ((seen.history.length - 1 - i) * (plot.right - plot.left)) / (remembered - 1);
  const y = (rate) => plot.bottom - (rate / top) * (plot.bottom - plot.top);
  const inside = [];
  for (const share of [0, 0.5, 1]) {
    const at = Math.round(y(share * top)) + 0.5;
    const label = draw("text", { x: width, y: at + 4, "text-anchor": "end" });
    label.textContent = bitsText(share * top);
    inside.push(draw("line", { class: "rule", x1: plot.left, x2: plot.right, y1: at, y2: at }), label);
  }
  for (const [at, anchor, text] of [[plot.left, "start", "5 min ago"], [plot.right, "end", "now"]]) {
    const label = draw("text", { x: at, y: height - 4, "text-anchor": anchor });
    label.textContent = text;
    inside.push(label);
  }
  inside.push(draw("path", { class: "under", d: curve("sent", x, y, plot.bottom) }));
  for (const way of ["received", "sent"]) inside.push(draw("path", { class: way, d: curve(way, x, y) }));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...inside);
}

// curve is the path of one way's samples, broken where none was known; down to floor where that is given.
function curve(way, x, y, floor) {
  let d = "";
  let open = null; // where the piece began
  seen.history.forEach((h, i) => {
    if (h[way] == null) {
      open = null;
      return;
    }
    const point = `${x(i).toFixed(1)} ${y(h[way]).toFixed(1)}`;
    d += open === null ? `M${point}` : `L${point}`;
    open ??= x(i);
    const last = seen.history[i + 1]?.[way] == null;
    if (last && floor !== undefined) d += `L${x(i).toFixed(1)} ${floor}L${open.toFixed(1)} ${floor}Z`;
  });
  return d;
}
