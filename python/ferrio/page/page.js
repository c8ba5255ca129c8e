// The player: what is shown now, and the keys, buttons and gestures that change it.

const SPEEDS = [0.25, 0.5, 1, 2, 5, 20, 100, 500];
const FRACTIONS = { 0.25: "¼", 0.5: "½" };
const CALM = 2; // up to this speed the chips glide and the narration is spoken

const run = new Run(JSON.parse(byId("events").textContent));
const scales = { folded: new Scale(run.times, "folded"), real: new Scale(run.times, "real") };
const still = matchMedia("(prefers-reduced-motion: reduce)");

const now = { i: 0, x: 0, scale: scales.folded, playing: false, speed: 1, chosen: null, shown: -1 };

const go = (i) => {
  pause();
  seek(i);
};
const choose = (number) => {
  now.chosen = now.chosen === number ? null : number;
  redraw();
};
const source = new Source(run, choose);
const boxes = new Boxes(run, choose);
const moment = new MomentText(run, go);
const output = new Output(run, go);
const timeline = new Timeline(run, { seek: go, choose });

// Shows event i; x is where in the gap after it the player is.
function seek(i, x = null, glide = true) {
  now.i = Math.max(0, Math.min(run.length - 1, i));
  now.x = x ?? now.scale.x[now.i];
  if (now.shown !== now.i) refresh(glide && !still.matches && Math.abs(now.shown - now.i) === 1);
  boxes.tick(x === null ? run.times[now.i] : now.scale.time(now.x));
  timeline.draw(now.x, now.i, now.chosen);
  scrubber.value = now.x;
  scrubber.setAttribute("aria-valuetext", `event ${now.i + 1} of ${run.length}, ${clockTime(run.times[now.i])}`);
}

function refresh(glide = false) {
  now.shown = now.i;
  const state = run.at(now.i);
  moment.show(now.i);
  source.show(now.i, state);
  boxes.show(now.i, state, now.chosen, glide);
  boxes.tick(run.times[now.i]);
  output.show(now.i);
  remember();
}

function redraw() {
  refresh();
  timeline.draw(now.x, now.i, now.chosen);
}

// The address names the moment, so that it can be sent to somebody.
let remembering = 0;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    try {
      history.replaceState(null, "", `#n=${run.events[now.i].n ?? now.i + 1}`);
    } catch {
      /* not every place a file is opened from allows it, and nothing depends on it */
    }
  }, 300);
}

function recalled() {
  const n = Number(/^#n=(\d+)$/.exec(location.hash)?.[1]);
  return n ? run.events.findIndex((event, i) => (event.n ?? i + 1) === n) : -1;
}

let last = 0;
function frame(time) {
  if (!now.playing) return;
  const passed = Math.min(0.1, (time - last) / 1000);
  last = time;
  const x = now.x + passed * now.speed;
  if (x >= now.scale.width) {
    seek(run.length - 1);
    pause();
    return;
  }
  seek(now.scale.index(x), x, now.speed <= CALM);
  requestAnimationFrame(frame);
}

function play() {
  if (now.i >= run.length - 1) seek(0);
  now.playing = true;
  last = performance.now();
  told();
  requestAnimationFrame(frame);
}

function pause() {
  now.playing = false;
  told();
}

function toggle() {
  if (now.playing) pause();
  else play();
}

function told() {
  buttons.play.replaceChildren(icon(now.playing ? "pause" : "run"));
  buttons.play.setAttribute("aria-label", now.playing ? "Pause" : "Play");
  byId("moment").setAttribute("aria-live", now.playing && now.speed > CALM ? "off" : "polite");
}

function setSpeed(speed) {
  now.speed = speed;
  speedChoice.value = String(speed);
  told();
}

function setScale(kind) {
  now.scale = scales[kind];
  now.x = now.scale.x[now.i];
  scrubber.max = now.scale.width;
  for (const [name, button] of Object.entries(scaleButtons)) button.setAttribute("aria-pressed", String(name === kind));
  lay();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("ferrio-theme", theme);
  } catch {
    /* no storage here: the choice lasts as long as the page */
  }
  lay();
}

function lay() {
  timeline.measure(now.scale);
  seek(now.i);
}

// The next or previous step: of the chosen task if there is one.
function step(direction) {
  const steps = now.chosen ? run.steps.filter((k) => run.events[k].task === now.chosen) : run.steps;
  const found = Run.beyond(steps, now.i, direction);
  if (found !== null) go(found);
}

function finding(direction) {
  const found = Run.beyond(run.mistakes, now.i, direction);
  if (found !== null) go(found);
}

function chooseBy(direction) {
  const lanes = timeline.rows.filter((lane) => lane.number !== LOOP);
  const at = lanes.findIndex((lane) => lane.number === now.chosen);
  const next = at + direction;
  now.chosen = at < 0 ? lanes.at(direction > 0 ? 0 : -1)?.number : (lanes[next]?.number ?? null);
  redraw();
}

function faster(direction) {
  const at = SPEEDS.indexOf(now.speed) + direction;
  setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, at))]);
}

const KEYS = [
  ["→", ["ArrowRight"], "next event", () => go(now.i + 1)],
  ["←", ["ArrowLeft"], "previous event", () => go(now.i - 1)],
  ["Space", [" "], "play and pause", toggle],
  ["Home", ["Home"], "to the beginning", () => go(0)],
  ["End", ["End"], "to the end", () => go(run.length - 1)],
  ["j", ["j"], "next step of a task (of the chosen one, if one is chosen)", () => step(1)],
  ["k", ["k"], "previous step", () => step(-1)],
  ["↓ ↑", ["ArrowDown"], "choose a task to follow", () => chooseBy(1)],
  ["", ["ArrowUp"], "", () => chooseBy(-1)],
  ["Esc", ["Escape"], "follow no task", () => now.chosen && choose(now.chosen)],
  ["w", ["w"], "why? To the event that led to this one", () => run.causes[now.i] >= 0 && go(run.causes[now.i])],
  ["n", ["n"], "next finding", () => finding(1)],
  ["p", ["p"], "previous finding", () => finding(-1)],
  ["+ −", ["+", "="], "zoom the timeline", () => timeline.zoomBy(1.5)],
  ["", ["-"], "", () => timeline.zoomBy(1 / 1.5)],
  ["> <", [">", "."], "faster, slower", () => faster(1)],
  ["", ["<", ","], "", () => faster(-1)],
  ["s", ["s"], "folded or real time", () => setScale(now.scale.kind === "real" ? "folded" : "real")],
  ["t", ["t"], "light or dark", () => buttons.theme.click()],
  ["?", ["?"], "this help", () => byId("help").showModal()],
];
const ACTIONS = new Map(KEYS.flatMap(([, keys, , action]) => keys.map((key) => [key, action])));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const action = ACTIONS.get(event.key);
  const target = event.target;
  if (!action || target.matches("select")) return;
  // A focused button keeps Space, and a pane that scrolls keeps up and down.
  if (event.key === " " && target.matches("button, a")) return;
  if (/^Arrow(Up|Down)$/.test(event.key) && target.matches("#code, #output")) return;
  event.preventDefault();
  action();
});

// The controls.

function button(shown, label, action) {
  const attributes = { type: "button", class: "plain", title: label, "aria-label": label, onclick: action };
  return element("button", attributes, shown in ICONS ? icon(shown) : shown);
}

function labelled(shown, help, action) {
  return element("button", { type: "button", title: help, onclick: action }, shown);
}

const buttons = {
  theme: byId("theme"),
  play: element("button", { type: "button", class: "play", title: "Play and pause (space)", onclick: toggle }),
};
const scrubber = byId("scrubber");
const speedChoice = element(
  "select",
  { "aria-label": "Speed", onchange: () => setSpeed(Number(speedChoice.value)) },
  ...SPEEDS.map((speed) => element("option", { value: speed }, `${FRACTIONS[speed] ?? speed}×`)),
);
const scaleButtons = {
  folded: labelled("folded", "Idle time is squeezed (s)", () => setScale("folded")),
  real: labelled("real time", "Time as it passed (s)", () => setScale("real")),
};

byId("controls").append(
  element(
    "div",
    { class: "player" },
    button("first", "To the beginning (Home)", () => go(0)),
    button("back", "Previous event (←)", () => go(now.i - 1)),
    buttons.play,
    button("forward", "Next event (→)", () => go(now.i + 1)),
    button("last", "To the end (End)", () => go(run.length - 1)),
  ),
  element("label", { class: "speed" }, "speed ", speedChoice),
  element(
    "div",
    { class: "choice", role: "group", "aria-label": "Scale of time" },
    scaleButtons.folded,
    scaleButtons.real,
  ),
  element(
    "div",
    { class: "zoom" },
    button("−", "Zoom out (−)", () => timeline.zoomBy(1 / 1.5)),
    button("+", "Zoom in (+)", () => timeline.zoomBy(1.5)),
  ),
);
scrubber.addEventListener("input", () => go(now.scale.nearest(Number(scrubber.value))));
buttons.theme.append(icon("theme"));
buttons.theme.addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});
byId("help-open").append(icon("help"));
byId("help-open").addEventListener("click", () => byId("help").showModal());

for (const [kind, label, drawing] of [
  ["run", "running"],
  ["ready", "ready: stands in the queue"],
  ["wait", "waiting"],
  ["sleep", "all wait: the thread sleeps"],
  ["arrow", "woke", "arrow"],
  ["birth", "made", "arrow"],
]) {
  byId("legend").append(element("li", { class: `key-${kind}` }, drawing ? icon(drawing) : element("i"), label));
}

byId("help").append(
  element("h2", {}, "Keys"),
  element(
    "dl",
    {},
    ...KEYS.filter(([, , what]) => what).map(([label, , what]) =>
      element(
        "div",
        {},
        element("dt", {}, ...label.split(" ").map((key) => element("kbd", {}, key))),
        element("dd", {}, what),
      ),
    ),
  ),
  element("p", {}, "Drag the timeline with the mouse; zoom it with Ctrl and the wheel. A click on a task follows it."),
  element("form", { method: "dialog" }, element("button", { class: "close" }, "Close")),
);

// The frame of the page, and the first moment.

const { head } = run;
const words = [...(head.argv ?? [])];
if (words[0] === head.program) words.shift();
byId("program").textContent = [head.program ?? "a run", ...words].join(" ");
const facts = [
  count(run.lanes.size - 1, "task"),
  count(run.length, "event"),
  duration(run.times.at(-1), 4),
  head.clock === "virtual" && "virtual clock",
];
const more = [
  head.python && `Python ${head.python}`,
  head.started && new Date(head.started * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }),
];
byId("facts").append(
  facts.filter(Boolean).join(" · "),
  element("span", { class: "more" }, ...more.filter(Boolean).map((fact) => ` · ${fact}`)),
);
writeFindings(run, (i) => {
  go(i);
  scrollTo({ top: 0, behavior: still.matches ? "auto" : "smooth" });
});
writeBill(run);
setSpeed(1);
setScale("folded");
seek(Math.max(0, recalled()));
addEventListener("resize", lay);
addEventListener("hashchange", () => recalled() >= 0 && go(recalled()));
