// The table of peers, the drops, and the node itself.

import { byName, map, namedLimit } from "./map.js";
import { dropped, reasons, seen } from "./rates.js";
import { $, condition, make, milliseconds, perSecond, percent, plural, rateOf, rateText, show, span, urgency, write } from "./text.js";

// ---- the table of peers

export const table = { rows: new Map(), sort: null, descending: false, filter: "", peers: [] };

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
export function drawPeers(peers) {
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

export function drawDrops(drops) {
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

export function drawNode(s) {
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
