// A unified diff, a file at a time.

import { arrange, element } from "/draw.js";

const MOST_LINES = 4000;

// A file whose change is told as before stays as it is; one whose change is another stays open or closed, and scrolled as far.
export function drawDiff(into, text) {
  if (!text.trim()) { into.replaceChildren(element("p", { className: "quiet" }, "It changed nothing so far.")); return; }
  const known = new Map([...into.children].filter((one) => one.of).map((one) => [one.of, one]));
  const files = [];
  let left = MOST_LINES;
  for (const chunk of text.split(/^(?=diff --git )/m)) {
    const lines = chunk.split("\n");
    const name = /^diff --git a\/(.*) b\//.exec(lines[0])?.[1] ?? lines[0];
    const body = lines.slice(lines.findIndex((line) => line.startsWith("@@")));
    const room = Math.max(0, left);
    left -= body.length;
    const file = known.get(name) ?? element("details", { className: "file", open: files.length < 20 }, element("summary"), element("pre"));
    known.delete(name); // what became another kind of file is there twice
    files.push(file);
    const made = `${left < 0 ? room : "all"} ${chunk}`;
    if (file.made === made) continue;
    Object.assign(file, { of: name, made });
    drawFile(file, name, body, room, left < 0);
  }
  arrange(into, files);
}

function drawFile(file, name, body, room, cut) {
  const added = body.filter((line) => line.startsWith("+")).length, gone = body.filter((line) => line.startsWith("-")).length;
  const rows = [];
  for (const line of body.slice(0, room)) {
    if (line === "") continue;
    const kind = line[0] === "+" ? "add" : line[0] === "-" ? "del" : line[0] === "@" ? "at" : "";
    rows.push(element("span", { className: kind }, line));
  }
  if (cut) rows.push(element("span", { className: "at" }, "… the rest is left out here; journeyman diff has it"));
  const [summary, pre] = file.children;
  const across = pre.scrollLeft;
  summary.textContent = `${name}  +${added} −${gone}`;
  pre.replaceChildren(...rows);
  pre.scrollLeft = across;
}
