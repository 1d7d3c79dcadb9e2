// Elements and words. What other machines chose, names above all, reaches the document as text alone.

import { seen } from "./rates.js";

export const $ = (id) => document.getElementById(id);

// clean replaces what could hide in a text, or turn it around: control and format characters.
export const clean = (s) => String(s ?? "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, "\ufffd");

// write sets an element's text where it is another, so that selections and screen readers are left alone.
export function write(element, text) {
  text = clean(text);
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

// make returns an HTML element, of class names, around texts and elements.
export function make(name, classes, ...inside) {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  element.append(...inside.map((i) => (i instanceof Node ? i : clean(i))));
  return element;
}

// draw returns an SVG element with attributes.
export function draw(name, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// ---- words

export const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// bits returns a rate with three digits, and its unit: ["12.3", "Mb/s"].
export function bits(rate) {
  if (rate == null) return ["–", ""];
  const units = ["b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"];
  let unit = 0;
  while (rate >= 999.5 && unit < units.length - 1) {
    rate /= 1000;
    unit++;
  }
  return [rate.toFixed(rate === 0 || rate >= 99.95 || unit === 0 ? 0 : rate >= 9.995 ? 1 : 2), units[unit]];
}

export const bitsText = (rate) => bits(rate).join(" ").trim();

export function perSecond(rate) {
  if (rate == null) return "–";
  return rate === 0 ? "0" : rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString("en");
}

// milliseconds returns a round trip with as many decimals as are worth reading.
export function milliseconds(us) {
  if (!us) return "";
  const ms = us / 1000;
  return `${ms.toFixed(ms < 9.995 ? 2 : ms < 99.95 ? 1 : 0)} ms`;
}

export const percent = (share) => (share > 0 ? `${Math.max(1, Math.round(100 * share))} %` : "");

export function span(since) {
  const s = Math.max(0, Math.floor((Date.now() - Date.parse(since)) / 1000));
  if (!Number.isFinite(s)) return "";
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${s % 60}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${Math.floor((s % 3600) / 60)}m`;
  return `${Math.floor(s / 86400)}d${Math.floor((s % 86400) / 3600)}h`;
}

// condition says how a peer does: a word for people, and a class for colours. The order is that of urgency.
export function condition(p) {
  if (p.dataPath === "fails" && (p.state === "up" || p.state === "grace")) return { label: `${p.state}, no data`, kind: "bad" };
  if (p.static && p.state === "up") return { label: "static", kind: "static" };
  const kind = { up: "up", grace: "warn", left: "off", replaced: "off" }[p.state] ?? "bad";
  return { label: p.state, kind };
}
export const urgency = ["bad", "warn", "up", "static", "off"];

export const stateKind = (state) => ({ ready: "", starting: "warn", leaving: "warn" })[state] ?? "bad";

// rateOf is null of what is not known, and undefined of what nobody counts.
export const rateOf = (p, way) => (p.mode === "direct" ? undefined : (seen.rates.get(`${p.id} ${way}`) ?? null));
export const rateText = (rate) => (rate === undefined ? "not counted" : bitsText(rate));
