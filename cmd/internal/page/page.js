// The page's script: asks the daemon each second, makes rates of its counters, and draws.

import { drawChart, drawMap } from "./map.js";
import { dropped, measure, remember, seen } from "./rates.js";
import { drawDrops, drawNode, drawPeers } from "./table.js";
import { $, bits, clean, condition, make, perSecond, plural, show, span, stateKind, write } from "./text.js";

const patience = 5000; // ms that an answer may take
const interval = 1000; // ms from an answer to the next question

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

run();
