// Who holds which paths, who waits for them, and which runs wait for which. Draws a model and the repository's queue.

import { element } from "/draw.js";

const HOLDS = new Set(["ready", "running", "merging"]);

export function drawClaims(into, model, queue, at, choose, open) {
  const tasks = [...model.tasks.values()];
  const named = (task) => {
    const button = element("button", {}, task.id);
    button.addEventListener("click", () => choose(task.id));
    return button;
  };
  const rows = tasks.filter((task) => HOLDS.has(task.state) && (task.writes.length || task.reads.length)).map((task) => {
    const behind = tasks.filter((other) => other.waits.includes(task.id));
    return element("tr", { "data-task": task.id }, element("td", {}, named(task)),
      element("td", {}, element("span", { className: `badge is-${task.state}` }, task.state)),
      element("td", { className: "mono" }, ...paths(task)),
      element("td", {}, ...behind.flatMap((other, number) => [...(number ? [", "] : []), named(other), element("small", { className: "quiet" }, ` ${shared(task, other)}`)])));
  });
  const parts = [element("h4", {}, "Claims that are held"), rows.length
    ? table(["Task", "State", "Paths", "Waited for by"], rows)
    : element("p", { className: "quiet" }, model.over ? "The run has ended; nothing is held." : "Nothing is held at the moment.")];
  const lines = queue.map((one) => {
    const button = element("button", {}, one.run);
    button.addEventListener("click", () => open(one.run));
    return element("tr", { className: one.run === at.run ? "chosen" : "" }, element("td", {}, button),
      element("td", {}, element("span", { className: `badge is-${one.active ? "running" : "queued"}` }, one.active ? "running" : "queued")),
      element("td", {}, one.reason || ""));
  });
  parts.push(element("h4", {}, "Runs of this repository that have not ended"), lines.length
    ? table(["Run", "State", "Why it waits"], lines) : element("p", { className: "quiet" }, "There are none."));
  into.replaceChildren(...parts);
}

function table(names, rows) {
  return element("table", {}, element("thead", {}, element("tr", {}, ...names.map((name) => element("th", {}, name)))), element("tbody", {}, ...rows));
}

function paths(task) {
  const lines = [...task.writes, ...task.reads.map((path) => `${path} (reads)`)];
  const more = lines.length > 12 ? [`and ${lines.length - 12} more`] : [];
  return [...lines.slice(0, 12), ...more].flatMap((line, number) => (number ? [element("br"), line] : [line]));
}

// The path that both want, or that one only comes after the other.
function shared(task, other) {
  const mine = new Set([...task.writes, ...task.reads]);
  return [...other.writes, ...other.reads].find((path) => mine.has(path)) ?? (other.after.includes(task.id) ? "comes after it" : "wants a path of it");
}
