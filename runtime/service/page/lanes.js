// Instances as lanes over time, with the steals drawn between them. Draws a model; changes nothing.

import { arrow, fitted, svg } from "/draw.js";
import { clock } from "/model.js";

const TOP = 24, LABEL = 104;

export function drawLanes(into, model, now, width, chosen, choose) {
  const names = [...model.lanes.keys()].filter((name) => model.lanes.get(name).length).sort(natural);
  const ROW = names.length > 14 ? 26 : 34;
  const end = Math.max(now, 0.5);
  const room = Math.max(220, width - LABEL - 12);
  const x = (at) => LABEL + (at / end) * room;
  const y = (name) => TOP + names.indexOf(name) * ROW;
  const height = TOP + names.length * ROW + 8;
  into.setAttribute("width", LABEL + room + 12);
  into.setAttribute("height", height);
  const parts = [arrow()];
  for (const at of ticks(end, Math.max(2, Math.floor(room / 90)))) {
    parts.push(svg("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP - 4, y2: height }),
      svg("text", { class: "label", x: x(at), y: 12, "text-anchor": "middle" }, clock(at)));
  }
  for (const name of names) {
    parts.push(svg("text", { class: "label", x: 0, y: y(name) + ROW / 2 + 1 }, fitted(name, LABEL - 8, "11px ui-monospace, monospace")));
    for (const span of model.lanes.get(name)) parts.push(drawSpan(span, x, y(name), ROW, now, chosen, choose));
  }
  for (const name of names) {
    for (const span of model.lanes.get(name)) {
      const victim = names.includes(span.from) ? span.from : span.from && names.find((one) => one.startsWith(`${span.from}-`));
      if (!victim) continue;
      const from = y(victim) + ROW / 2 - 3, to = y(name) + ROW / 2 - 3, at = x(span.start);
      parts.push(svg("path", { class: "steal", d: `M${at - 1} ${from} C${at - 22} ${from} ${at - 22} ${to} ${at - 1} ${to}` },
        svg("title", {}, `${name} took ${span.task} from ${span.from}`)));
    }
  }
  if (!model.over && names.length) parts.push(svg("line", { class: "now", x1: x(now), x2: x(now), y1: TOP - 4, y2: height }));
  into.replaceChildren(...parts);
}

function drawSpan(span, x, top, ROW, now, chosen, choose) {
  const left = x(span.start), width = Math.max(2, x(span.end ?? now) - left);
  const how = `span ${span.how}${span.from ? " stolen" : ""}${span.task === chosen ? " chosen" : ""}`;
  const group = svg("g", { class: how, "data-task": span.task }, svg("rect", { x: left, y: top + 1, width, height: ROW - 7 }),
    svg("title", {}, `${span.task}: ${clock((span.end ?? now) - span.start)}` + (span.attempt > 1 ? `, attempt ${span.attempt}` : "") +
      (span.from ? `, stolen from ${span.from}` : "")));
  const words = width > 18 ? fitted(span.task, width - 10) : "";
  if (words) group.append(svg("text", { x: left + 5, y: top + ROW / 2 + 1 }, words));
  group.addEventListener("click", () => choose(span.task));
  return group;
}

function ticks(end, most) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600].find((one) => end / one <= most) ?? end / most;
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, number) => number * step);
}

function natural(one, other) { return one.localeCompare(other, "en", { numeric: true }); }
