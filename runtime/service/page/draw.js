// Elements, without any HTML in a string.

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

// Children as they are wanted. What is there already is not touched: taken out and put in again it would lose its focus and its scroll.
export function arrange(into, wanted) {
  const stay = new Set(wanted);
  for (const one of [...into.childNodes]) if (!stay.has(one)) one.remove();
  wanted.forEach((one, number) => { if (into.childNodes[number] !== one) into.insertBefore(one, into.childNodes[number] ?? null); });
}

// The text as it fits into so many pixels; of a path its end says more than its beginning.
const pen = document.createElement("canvas").getContext("2d");
export function fitted(text, width, font = "12px system-ui, sans-serif") {
  pen.font = font;
  const fits = (words) => pen.measureText(words).width <= width;
  if (fits(text)) return text;
  const last = text.slice(text.lastIndexOf("/") + 1);
  if (last !== text && fits("…/" + last)) return "…/" + last;
  for (let most = last.length; most > 1; most -= 1) {
    const cut = last.slice(0, most) + (most < last.length ? "…" : "");
    if (fits(cut)) return cut;
  }
  return "";
}

export function arrow() {
  return svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" },
    svg("path", { d: "M0 0 8 4 0 8z" })));
}
