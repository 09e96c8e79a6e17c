// A unified diff, a file at a time.

import { element } from "/draw.js";

const MOST_LINES = 4000;

export function drawDiff(into, text, folded) {
  if (!text.trim()) { into.replaceChildren(element("p", { className: "quiet" }, "It changed nothing so far.")); return; }
  const files = [];
  let left = MOST_LINES;
  for (const chunk of text.split(/^(?=diff --git )/m)) {
    const lines = chunk.split("\n");
    const name = /^diff --git a\/(.*) b\//.exec(lines[0])?.[1] ?? lines[0];
    const body = lines.slice(lines.findIndex((line) => line.startsWith("@@")));
    const added = body.filter((line) => line.startsWith("+")).length, gone = body.filter((line) => line.startsWith("-")).length;
    const pre = element("pre");
    for (const line of body.slice(0, Math.max(0, left))) {
      if (line === "") continue;
      const kind = line[0] === "+" ? "add" : line[0] === "-" ? "del" : line[0] === "@" ? "at" : "";
      pre.append(element("span", { className: kind }, line));
    }
    left -= body.length;
    if (left < 0) pre.append(element("span", { className: "at" }, "… the rest is left out here; journeyman diff has it"));
    files.push(element("details", { className: "file", open: !folded && files.length < 20 }, element("summary", {}, `${name}  +${added} −${gone}`), pre));
  }
  into.replaceChildren(...files);
}
