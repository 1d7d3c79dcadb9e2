// What is kept between two answers, and the rates that are made of their counters.

export const remembered = 300; // samples of the chart
export const seen = { version: "", counters: null, rates: new Map(), history: [], labels: null };

// total is everything that was dropped, by the daemon and beside it.
export function dropped(drops) {
  const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
  return sum(drops.egress.drops) + sum(drops.ingress.drops) + sum(drops.kernel);
}

// reasons are the counters of drops that are not zero, each with what it means. Those of the kernel are named as
// `weft drops` does.
export function reasons(drops) {
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
export function measure(status, peers, drops) {
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

export function remember(sent, received) {
  seen.history.push({ sent, received });
  if (seen.history.length > remembered) seen.history.shift();
}
