// The page's script: asks the daemon each second, makes rates of its counters, and draws. What other machines chose,
// names above all, reaches the document as text alone.

const interval = 1000; // ms from an answer to the next question
const patience = 5000; // ms that an answer may take
const remembered = 300; // samples of the chart
const ringLimit = 40; // peers that the map shows with their names
const namedLimit = 12; // peers whose names stand upright

const $ = (id) => document.getElementById(id);

// clean replaces what could hide in a text, or turn it around: control and format characters.
const clean = (s) => String(s ?? "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, "\ufffd");

// write sets an element's text where it is another, so that selections and screen readers are left alone.
function write(element, text) {
  text = clean(text);
  if (element.textContent !== text) element.textContent = text;
}

function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

// make returns an HTML element, of class names, around texts and elements.
function make(name, classes, ...inside) {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  element.append(...inside.map((i) => (i instanceof Node ? i : clean(i))));
  return element;
}

// draw returns an SVG element with attributes.
function draw(name, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// ---- asking

const seen = { version: "", counters: null, rates: new Map(), history: [], labels: null };
let lost = null; // since when there is no answer

async function ask(what) {
  const response = await fetch(`v1/${what}`, { signal: AbortSignal.timeout(patience) });
  if (!response.ok) throw new Error(`it answers with status ${response.status}`);
  return response.json();
}

async function turn() {
  let answers;
  try {
    answers = await Promise.all(["status", "peers", "drops"].map(ask));
  } catch (error) {
    unanswered(error);
    return;
  }
  const [status, { peers }, drops] = answers;
  if (seen.version && seen.version !== status.version) location.reload(); // this script is the old version's
  seen.version = status.version;
  answered();
  measure(status, peers, drops);
  render(status, peers, drops);
}

async function run() {
  if (document.hidden) {
    document.addEventListener("visibilitychange", run, { once: true });
    return;
  }
  try {
    await turn();
  } finally {
    setTimeout(run, interval);
  }
}

function unanswered(error) {
  lost ??= new Date();
  seen.counters = null;
  remember(null, null);
  const why = error.name === "TimeoutError" ? `no answer within ${patience / 1000} s` : error.name === "TypeError" ? "nothing listens, or a tunnel to it has ended" : error.message;
  $("live").classList.add("gone");
  write($("live"), "no answer");
  write($("trouble"), `weftd has not answered since ${lost.toLocaleTimeString()} (${why}). It is asked again every second; below is what was so before.`);
  show($("trouble"), true);
  $("main").classList.add("stale");
  drawChart();
}

function answered() {
  lost = null;
  $("live").classList.remove("gone");
  write($("live"), "live");
  show($("trouble"), false);
  $("main").classList.remove("stale");
  show($("main"), true);
}

// ---- rates

// total is everything that was dropped, by the daemon and beside it.
function dropped(drops) {
  const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
  return sum(drops.egress.drops) + sum(drops.ingress.drops) + sum(drops.kernel);
}

// reasons are the counters of drops that are not zero, each with what it means. Those of the kernel are named as
// `weft drops` does.
function reasons(drops) {
  const meanings = drops.reasons;
  const kernel = {
    "socket overflow": [drops.kernel.socketOverflow, "datagrams that the full buffer of the data socket did not take"],
    "device transmit": [drops.kernel.tunTxDropped, "packets of pods (a TCP superpacket as one) that the full queue of the device did not take"],
    spoofed: [drops.kernel.spoofed, "packets of directly routed peers, and of pods, whose source was not the sender's to use"],
  };
  return [
    ...Object.entries(drops.egress.drops).map(([reason, count]) => ({ reason, where: "from pods", count, meaning: meanings[reason] })),
    ...Object.entries(drops.ingress.drops).map(([reason, count]) => ({ reason, where: "to pods", count, meaning: meanings[reason] })),
    ...Object.entries(kernel).map(([reason, [count, meaning]]) => ({ reason, where: "in the kernel", count, meaning })),
  ].filter((r) => r.count > 0);
}

// measure makes rates of two samples of the counters, per second. A daemon that was started between them began at
// zero, and so there is no rate.
function measure(status, peers, drops) {
  const now = performance.now();
  const counters = { at: now, started: status.started, of: new Map() };
  for (const p of peers) {
    counters.of.set(`${p.id} sent`, p.tx.bytes * 8);
    counters.of.set(`${p.id} received`, p.rx.bytes * 8);
  }
  counters.of.set("dropped", dropped(drops));
  for (const r of reasons(drops)) counters.of.set(`${r.where} ${r.reason}`, r.count);

  const before = seen.counters;
  seen.rates = new Map();
  if (before && before.started === counters.started) {
    for (const [key, count] of counters.of) {
      const since = count - (before.of.get(key) ?? 0);
      if (since >= 0) seen.rates.set(key, (since * 1000) / (now - before.at));
    }
  }
  seen.counters = counters;
  const sum = (way) => (seen.rates.size ? peers.reduce((all, p) => all + (seen.rates.get(`${p.id} ${way}`) ?? 0), 0) : null);
  remember(sum("sent"), sum("received"));
}

function remember(sent, received) {
  seen.history.push({ sent, received });
  if (seen.history.length > remembered) seen.history.shift();
}

// ---- words

const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// bits returns a rate with three digits, and its unit: ["12.3", "Mb/s"].
function bits(rate) {
  if (rate == null) return ["–", ""];
  const units = ["b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"];
  let unit = 0;
  while (rate >= 999.5 && unit < units.length - 1) {
    rate /= 1000;
    unit++;
  }
  return [rate.toFixed(rate === 0 || rate >= 99.95 || unit === 0 ? 0 : rate >= 9.995 ? 1 : 2), units[unit]];
}

const bitsText = (rate) => bits(rate).join(" ").trim();

function perSecond(rate) {
  if (rate == null) return "–";
  return rate === 0 ? "0" : rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString("en");
}

// milliseconds returns a round trip with as many decimals as are worth reading.
function milliseconds(us) {
  if (!us) return "";
  const ms = us / 1000;
  return `${ms.toFixed(ms < 9.995 ? 2 : ms < 99.95 ? 1 : 0)} ms`;
}

const percent = (share) => (share > 0 ? `${Math.max(1, Math.round(100 * share))} %` : "");

function span(since) {
  const s = Math.max(0, Math.floor((Date.now() - Date.parse(since)) / 1000));
  if (!Number.isFinite(s)) return "";
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${s % 60}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${Math.floor((s % 3600) / 60)}m`;
  return `${Math.floor(s / 86400)}d${Math.floor((s % 86400) / 3600)}h`;
}

// condition says how a peer does: a word for people, and a class for colours. The order is that of urgency.
function condition(p) {
  if (p.dataPath === "fails" && (p.state === "up" || p.state === "grace")) return { label: `${p.state}, no data`, kind: "bad" };
  if (p.static && p.state === "up") return { label: "static", kind: "static" };
  const kind = { up: "up", grace: "warn", left: "off", replaced: "off" }[p.state] ?? "bad";
  return { label: p.state, kind };
}
const urgency = ["bad", "warn", "up", "static", "off"];

const stateKind = (state) => ({ ready: "", starting: "warn", leaving: "warn" })[state] ?? "bad";

// rateOf is null of what is not known, and undefined of what nobody counts.
const rateOf = (p, way) => (p.mode === "direct" ? undefined : (seen.rates.get(`${p.id} ${way}`) ?? null));
const rateText = (rate) => (rate === undefined ? "not counted" : bitsText(rate));

// ---- the page, from top to bottom

function render(status, peers, drops) {
  drawHead(status);
  drawWarnings(status);
  drawFigures(status, peers);
  drawMap(status, peers);
  drawChart();
  show($("direct-note"), peers.some((p) => p.mode === "direct"));
  drawPeers(peers);
  drawDrops(drops);
  drawNode(status);
  tell(peers);
}

function drawHead(status) {
  document.title = `${clean(status.node.name)}: ${clean(status.state)} · weft`;
  write($("name"), status.node.name);
  write($("state"), status.state);
  $("state").className = `state ${stateKind(status.state)}`;
  write($("reason"), status.reason);
  show($("reason"), Boolean(status.reason));
}

function drawWarnings(status) {
  const all = [...status.warnings];
  if (status.gossip.keyMismatches > 0) all.push(`${plural(status.gossip.keyMismatches, "message")} came under another gossip key: a node with the wrong key, or another cluster`);
  for (const [reason, n] of Object.entries(status.gossip.rejected)) if (n > 0) all.push(`${plural(n, "record")} rejected: ${reason}`);
  const list = $("warning-list");
  while (list.children.length > all.length) list.lastChild.remove();
  while (list.children.length < all.length) list.append(make("li"));
  all.forEach((text, i) => write(list.children[i], text));
  show($("warnings"), all.length > 0);
}

function drawFigures(status, peers) {
  const figure = (id, number, unit, kind = "") => {
    const dd = $(id);
    if (!dd.firstChild) dd.append(make("span"), make("small"));
    write(dd.firstChild, number);
    write(dd.lastChild, unit);
    dd.className = kind;
  };
  const here = peers.filter((p) => p.state !== "left" && p.state !== "replaced");
  const up = here.filter((p) => ["up", "static"].includes(condition(p).kind)).length;
  figure("figure-peers", up, `of ${here.length}`, up < here.length ? "warn" : "");
  const { sent, received } = seen.history.at(-1);
  figure("figure-sent", ...bits(sent));
  figure("figure-received", ...bits(received));
  const rate = seen.rates.get("dropped");
  figure("figure-dropped", perSecond(rate), "packets/s", rate > 0 ? "warn" : "");
}

// tell has screen readers say what changed of peers.
function tell(peers) {
  const labels = new Map(peers.map((p) => [p.id, condition(p).label]));
  if (seen.labels) {
    const changed = peers.filter((p) => seen.labels.get(p.id) !== labels.get(p.id));
    if (changed.length) {
      const more = changed.length > 3 ? `, and ${changed.length - 3} more changed` : "";
      write($("news"), changed.slice(0, 3).map((p) => `${p.name} is ${labels.get(p.id)}`).join(", ") + more);
    }
  }
  seen.labels = labels;
}

// ---- the map: a ring of peers with their names, or, of many, a grid

const map = { shape: "", marks: new Map(), order: [], picked: null, peers: new Map() };

const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : 1);

function drawMap(status, peers) {
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

function drawChart() {
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

// ---- the table of peers

const table = { rows: new Map(), sort: null, descending: false, filter: "", peers: [] };

// Immutable: what a column is sorted by.
const keys = {
  name: (p) => p.name,
  state: (p) => urgency.indexOf(condition(p).kind),
  pods: (p) => p.podCIDRs[0] ?? "",
  mode: (p) => p.mode,
  rtt: (p) => p.rttUs,
  loss: (p) => p.loss,
  pathMTU: (p) => p.pathMTU,
  sent: (p) => rateOf(p, "sent") ?? -1,
  received: (p) => rateOf(p, "received") ?? -1,
};

// drawPeers shows trouble first, unless a column was chosen. Rows stay the same elements.
function drawPeers(peers) {
  table.peers = peers;
  show($("filter-label"), peers.length > namedLimit);
  const wanted = table.filter.toLowerCase();
  const shown = peers.filter((p) => !wanted || [p.name, p.id, p.mode, condition(p).label, p.endpoint, ...p.podCIDRs].some((s) => String(s).toLowerCase().includes(wanted)));
  const key = keys[table.sort ?? "state"];
  const order = (a, b) => ((key(a) > key(b)) - (key(a) < key(b))) * (table.descending ? -1 : 1) || byName(a, b);
  shown.sort(order);

  const body = $("peers").tBodies[0];
  const ids = new Set(shown.map((p) => p.id));
  for (const [id, { row }] of table.rows) {
    if (!ids.has(id)) {
      row.remove();
      table.rows.delete(id);
    }
  }
  shown.forEach((p, i) => {
    const entry = table.rows.get(p.id) ?? newRow(p.id);
    fill(entry, p);
    if (body.children[i] !== entry.row) body.insertBefore(entry.row, body.children[i] ?? null);
  });
  show($("peers"), peers.length > 0);
  show($("no-peers"), shown.length === 0);
  write($("no-peers"), peers.length ? "No peer is so." : "No other node is known. Is join set, and are the gossip port and the data port open between the nodes?");
}

function newRow(id) {
  const row = make("tr");
  const cells = Object.keys(keys).map((column, i) => {
    const cell = make(i === 0 ? "th" : "td", i > 3 ? "number" : "");
    if (i === 0) cell.scope = "row";
    const mark = column === "state" ? [make("span", "mark")] : [];
    cell.append(...mark, make("span"), make("small"));
    row.append(cell);
    return cell;
  });
  const entry = { row, cells };
  table.rows.set(id, entry);
  return entry;
}

function fill({ row, cells }, p) {
  const { label, kind } = condition(p);
  const set = (i, text, sub = "", classes = "") => {
    write(cells[i].lastChild.previousSibling, text);
    write(cells[i].lastChild, sub);
    const all = [i > 3 ? "number" : "", classes].filter(Boolean).join(" ");
    if (cells[i].className !== all) cells[i].className = all;
  };
  const quiet = (rate) => (rate ? "" : "quiet");
  const [sent, received] = [rateOf(p, "sent"), rateOf(p, "received")];
  set(0, p.name, p.mode === "direct" ? p.endpoint.replace(/:\d+$/, "").replace(/^\[|\]$/g, "") : p.endpoint);
  set(1, label, [p.since ? span(p.since) : "", p.reason].filter(Boolean).join(" · "), { bad: "bad", warn: "warn" }[kind] ?? "");
  cells[1].firstChild.className = `mark ${kind}`;
  set(2, p.podCIDRs[0] ?? "", p.podCIDRs.slice(1).join(" "));
  set(3, p.mode || "none", p.why, p.mode ? "" : "quiet");
  set(4, milliseconds(p.rttUs) || "–", "", quiet(p.rttUs));
  set(5, percent(p.loss) || "0 %", "", p.loss > 0 ? "warn" : "quiet");
  set(6, p.pathMTU || "–", p.pathMTU && !p.pathProven && !p.static && p.mode !== "direct" ? "not proven yet" : "", quiet(p.pathMTU));
  set(7, rateText(sent), "", quiet(sent));
  set(8, rateText(received), "", quiet(received));
  row.classList.toggle("picked", p.id === map.picked);
}

for (const button of document.querySelectorAll("#peers th button")) {
  button.addEventListener("click", () => {
    const th = button.closest("th");
    const numeric = th.classList.contains("number"); // the most comes first
    const again = table.sort === th.dataset.key;
    table.descending = again ? !table.descending : numeric;
    table.sort = th.dataset.key;
    for (const other of document.querySelectorAll("#peers th[aria-sort]")) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", table.descending ? "descending" : "ascending");
    drawPeers(table.peers);
  });
}
$("filter").addEventListener("input", () => {
  table.filter = $("filter").value.trim();
  drawPeers(table.peers);
});

// ---- drops, and the node itself

function drawDrops(drops) {
  const body = $("drops").tBodies[0];
  const all = reasons(drops).sort((a, b) => b.count - a.count);
  while (body.rows.length > all.length) body.lastChild.remove();
  while (body.rows.length < all.length) {
    const name = make("th", "", make("span"), make("small"));
    name.scope = "row";
    body.append(make("tr", "", name, make("td"), make("td", "number"), make("td", "number")));
  }
  all.forEach((r, i) => {
    const [name, where, count, rate] = body.rows[i].cells;
    write(name.firstChild, r.reason);
    write(name.lastChild, r.meaning);
    write(where, r.where);
    write(count, r.count.toLocaleString("en"));
    write(rate, perSecond(seen.rates.get(`${r.where} ${r.reason}`)));
  });
  show($("drops"), all.length > 0);
  const account = (d) => `${d.received.toLocaleString("en")} taken, ${d.forwarded.toLocaleString("en")} carried on`;
  write($("account"), `${all.length ? "" : "Nothing was dropped. "}Packets since weftd started: from pods ${account(drops.egress)}; to pods ${account(drops.ingress)}.`);
}

// facts fills a list of terms, without those that nothing is known of.
function facts(list, entries) {
  entries = entries.filter(([, text]) => text);
  while (list.children.length > 2 * entries.length) list.lastChild.remove();
  while (list.children.length < 2 * entries.length) list.append(make(list.children.length % 2 ? "dd" : "dt"));
  entries.forEach(([term, text, kind], i) => {
    write(list.children[2 * i], term);
    write(list.children[2 * i + 1], text);
    list.children[2 * i + 1].className = kind ?? "";
  });
}

function drawNode(s) {
  const join = (...parts) => parts.filter(Boolean).join(", ");
  facts($("node"), [
    ["Version", join(s.version, `up ${span(s.started)}`)],
    ["Node ID", s.node.id],
    ["Pods", s.podCIDRs.join(", ") || s.allocation.waiting],
    ...s.allocation.lost.map((b) => ["Lost block", `${b.prefix} is ${b.winner.name}'s; ${plural(b.pods.length, "pod")} cut off`, "warn"]),
    ["Pod network", s.podNetworks.join(", ")],
    ["Device", join(s.tun.name, s.tun.addresses.join(", "), s.tun.mtu ? `MTU ${s.tun.mtu}` : "")],
    ["Underlay", join(s.underlay.interface, s.underlay.addresses.join(", "), s.underlay.mtu ? `MTU ${s.underlay.mtu}` : "", s.underlay.why)],
    ["Mode", s.mode === "auto" ? `auto: direct where that works, ${s.tunnel} elsewhere` : s.mode],
    ["Data port", `UDP ${s.dataPort}`],
    ["VXLAN", s.vxlan.closed ? `closed: ${s.vxlan.closed}` : `UDP ${s.vxlan.port}, VNI ${s.vxlan.vni}`, s.vxlan.closed ? "warn" : ""],
    ["Gossip", join(s.gossip.address, s.gossip.encrypted ? "encrypted" : "not encrypted", plural(s.gossip.members, "member")), s.gossip.encrypted ? "" : "warn"],
    ["Host", join(s.masquerade ? "masquerade" : "no masquerade", `firewall ${s.firewall}`)],
  ]);
  facts($("offload"), [
    ["In use", s.offload.on.join(", ") || "none"],
    ...Object.entries(s.offload.off).sort().map(([name, why]) => [name, `off: ${why}`]),
    ["Workers", String(s.offload.workers)],
  ]);
}

run();
