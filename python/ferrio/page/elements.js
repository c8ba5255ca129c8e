// Making elements. Text is only ever text: nothing of the run is parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  queued: "M8 3v10M3 8h10",
  run: "M5 3.2v9.6L13 8z!",
  pause: "M5 3h2v10H5zM9 3h2v10H9z!",
  ready: "M8 13V3.5M4 7.2 8 3l4 4.2",
  finish: "M4 4h8v8H4z!",
  cancel: "M4 4l8 8M12 4l-8 8",
  asleep: "M13 9.6A5.6 5.6 0 0 1 6.4 3 5.6 5.6 0 1 0 13 9.6z",
  awake:
    "M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13" +
    "M13 3l-1.2 1.2M4.2 11.8 3 13",
  output: "M3 4l4 4-4 4M8.5 12H13",
  mistake: "M8 2.2 14.6 13.5H1.4zM8 6.5v3.2M8 11.4v.6",
  loop: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  bill: "M4 2h8v12l-2-1.3L8 14l-2-1.3L4 14zM6 5.5h4M6 8.5h4",
  first: "M3.4 3.4H5v9.2H3.4zM13 3.4v9.2L6.4 8z!",
  back: "M11.5 3.4v9.2L5 8z!",
  forward: "M4.5 3.4v9.2L11 8z!",
  last: "M12.6 3.4H11v9.2h1.6zM3 3.4v9.2L9.6 8z!",
  arrow: "M8 1.5v12M4.8 10.3 8 13.5l3.2-3.2",
  theme: "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
  help: "M5.6 6a2.4 2.4 0 1 1 3.6 2.1c-.8.5-1.2.9-1.2 1.9M8 12.4v.3",
};

const EVENT_ICONS = { start: "run", resume: "run", callback: "loop", queued: "queued" };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child != null && child !== false && child !== ""));
  return made;
}

// A path that ends with "!" is filled; the others are drawn as lines.
function icon(name) {
  const path = ICONS[EVENT_ICONS[name] ?? name] ?? ICONS.loop;
  const filled = path.endsWith("!");
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 16 16");
  drawing.setAttribute("class", filled ? "icon filled" : "icon");
  drawing.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", filled ? path.slice(0, -1) : path);
  drawing.append(line);
  return drawing;
}

// Text in which `…` is code.
function prose(text) {
  return text.split(/`([^`]+)`/).map((part, k) => (k % 2 ? element("code", {}, part) : part));
}

const byId = (id) => document.getElementById(id);
