// The graph of the tasks: columns by level, an edge for each `after`, a dashed one for an order that was added. Draws a model.

import { fitted, svg } from "/draw.js";

const WIDE = 188, HIGH = 40, ACROSS = 72, DOWN = 10, MANY = 150;

export function drawGraph(into, model, chosen, choose) {
  const tasks = [...model.tasks.values()];
  const small = tasks.length > MANY;
  const wide = small ? 14 : WIDE, high = small ? 14 : HIGH;
  const rows = levels(tasks, model.orders);
  const where = new Map();
  const most = Math.max(1, ...rows.map((row) => row.length));
  const columns = small ? 24 : Infinity;
  let left = 4, tallest = 0;
  for (const row of rows) {
    const wraps = Math.min(row.length, columns);
    row.forEach((task, number) => {
      where.set(task.id, [left + Math.floor(number / columns) * (wide + 4), 4 + (number % columns) * (high + (small ? 4 : DOWN))]);
    });
    tallest = Math.max(tallest, wraps * (high + (small ? 4 : DOWN)));
    left += (small ? Math.ceil(row.length / columns) * (wide + 4) : wide) + ACROSS;
  }
  into.setAttribute("width", Math.max(60, left));
  into.setAttribute("height", tallest + 12);
  const parts = [];
  const edge = (from, to, kind) => {
    const [x1, y1] = where.get(from) ?? [], [x2, y2] = where.get(to) ?? [];
    if (x1 === undefined || x2 === undefined) return;
    const a = x1 + wide, b = y1 + high / 2, c = y2 + high / 2, bend = Math.max(18, (x2 - a) / 2);
    parts.push(svg("path", { class: `edge ${kind}`, d: `M${a} ${b} C${a + bend} ${b} ${x2 - bend} ${c} ${x2} ${c}` }));
  };
  for (const task of tasks) for (const before of task.after) edge(before, task.id, "after");
  for (const order of model.orders) edge(order.first, order.then, "order");
  for (const task of tasks) parts.push(drawNode(task, where.get(task.id), wide, high, small, chosen, choose));
  into.replaceChildren(...parts);
  return most;
}

function drawNode(task, [x, y], wide, high, small, chosen, choose) {
  const node = svg("g", { class: `node ${task.state.replaceAll(" ", "-")}${task.id === chosen ? " chosen" : ""}`, tabindex: 0, role: "button",
    "aria-label": `${task.id}, ${task.state}`, "data-task": task.id }, svg("rect", { x, y, width: wide, height: high }),
    svg("title", {}, `${task.id}: ${task.state}` + (task.waits.length ? `, waits for ${task.waits.join(", ")}` : "") + (task.error ? `: ${task.error}` : "")));
  if (small) node.append(svg("circle", { class: "dot", cx: x + wide / 2, cy: y + high / 2, r: 4 }));
  else {
    node.append(svg("text", { x: x + 10, y: y + 17 }, fitted(task.id, wide - 18)),
      svg("text", { class: "who", x: x + 10, y: y + 32 }, fitted(`${task.state} · ${task.instance || task.specialist}`, wide - 18, "10.5px system-ui, sans-serif")));
  }
  node.addEventListener("click", () => choose(task.id));
  node.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(task.id); } });
  return node;
}

function levels(tasks, orders) {
  const before = new Map(tasks.map((task) => [task.id, [...task.after]]));
  for (const order of orders) before.get(order.then)?.push(order.first);
  const level = new Map();
  const depth = (id) => {
    if (level.has(id)) return level.get(id);
    level.set(id, 0);
    const found = Math.max(-1, ...(before.get(id) ?? []).filter((one) => before.has(one)).map(depth)) + 1;
    level.set(id, found);
    return found;
  };
  const rows = [];
  for (const task of tasks) (rows[depth(task.id)] ??= []).push(task);
  const found = rows.filter(Boolean);
  const place = new Map();
  for (const row of found) { // beside what it comes after, so that edges cross little
    const middle = (task) => {
      const known = (before.get(task.id) ?? []).filter((one) => place.has(one)).map((one) => place.get(one));
      return known.length ? known.reduce((sum, one) => sum + one, 0) / known.length : 0;
    };
    const wanted = new Map(row.map((task) => [task.id, middle(task)]));
    row.sort((one, other) => wanted.get(one.id) - wanted.get(other.id));
    row.forEach((task, number) => place.set(task.id, number));
  }
  return found;
}
