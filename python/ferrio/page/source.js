// The code: the files of the run, the line that runs, and a pin where each task stands.

const WORDS =
  "and as assert break case class continue def del elif else except finally for from global if import in is lambda " +
  "match nonlocal not or pass raise return try while with yield None True False";
const QUOTED = [
  /"""[^]*?(?:"""|(?![^]))/,
  /'''[^]*?(?:'''|(?![^]))/,
  /"(?:\\.|[^"\\\n])*"?/,
  /'(?:\\.|[^'\\\n])*'?/,
].map((part) => part.source);
const TOKENS = new RegExp(
  [
    /(?<comment>#[^\n]*)/,
    new RegExp(`(?<string>(?:\\b[rRbBfFuU]{1,2})?(?:${QUOTED.join("|")}))`),
    /(?<await>\b(?:async|await)\b)/,
    new RegExp(`(?<word>\\b(?:${WORDS.replaceAll(" ", "|")})\\b)`),
    /(?<number>\b\d[\w.]*)/,
    /(?<decorator>^[ \t]*@[\w.]+)/,
    /(?<name>[A-Za-z_]\w*)/,
  ]
    .map((part) => part.source)
    .join("|"),
  "gm",
);

// Python text as lines of [class, text] pieces. Not a parser: good enough to colour what parses.
function colour(text) {
  const lines = [[]];
  const add = (kind, piece) => {
    piece.split("\n").forEach((part, k) => {
      if (k) lines.push([]);
      if (part) lines.at(-1).push([kind, part]);
    });
  };
  let done = 0;
  let afterDef = false;
  for (const found of text.matchAll(TOKENS)) {
    const [kind] = Object.entries(found.groups).find(([, value]) => value !== undefined);
    add("", text.slice(done, found.index));
    add(kind === "name" ? (afterDef ? "defined" : "") : kind, found[0]);
    afterDef = kind === "word" && (found[0] === "def" || found[0] === "class");
    done = found.index + found[0].length;
  }
  add("", text.slice(done));
  return lines;
}

class Source {
  constructor(run, choose) {
    this.run = run;
    this.choose = choose;
    this.pane = byId("code");
    this.tabs = byId("files");
    this.files = new Map();
    this.pinned = [];
    const known = run.head.sources ?? {};
    for (const [file, text] of Object.entries(known)) if (text != null) this.files.set(file, text);
    // A run without its files still has the lines that its events name.
    const lines = new Map();
    for (const event of run.events) {
      if (!event.file || !event.line || this.files.has(event.file)) continue;
      if (!lines.has(event.file)) lines.set(event.file, []);
      lines.get(event.file)[event.line - 1] ??= event.code ?? "";
    }
    for (const [file, some] of lines) this.files.set(file, Array.from(some, (line) => line ?? "").join("\n"));
    this.panes = new Map();
    for (const file of this.files.keys()) {
      this.tabs.append(
        element("button", { type: "button", role: "tab", data: { file }, onclick: () => this.open(file) }, file),
      );
    }
    this.tabs.hidden = this.files.size < 2;
    if (!this.files.size) this.pane.append(element("p", { class: "none" }, "The run names no file."));
    else this.open(this.files.keys().next().value);
  }

  open(file) {
    if (this.file === file || !this.files.has(file)) return;
    this.file = file;
    if (!this.panes.has(file)) this.panes.set(file, this.write(this.files.get(file)));
    this.pane.replaceChildren(this.panes.get(file).table);
    for (const tab of this.tabs.children) tab.setAttribute("aria-selected", String(tab.dataset.file === file));
  }

  write(text) {
    const rows = colour(text.replace(/\n+$/, "")).map((pieces, k) => {
      const code = element("code");
      for (const [kind, piece] of pieces) code.append(kind ? element("span", { class: `py-${kind}` }, piece) : piece);
      return element("div", { class: "line" }, element("span", { class: "number" }, String(k + 1)), code);
    });
    return { rows, table: element("div", { class: "listing" }, ...rows) };
  }

  show(i, state) {
    const event = this.run.events[i];
    const running = state.tasks.get(state.running);
    const place = event.file && event.line ? event : (running?.place ?? null);
    if (place) this.open(place.file);
    for (const row of this.pinned) {
      row.classList.remove("current", "running", "waiting", "ready", "mistake");
      row.querySelector(".pins")?.remove();
    }
    this.pinned = [];
    const rows = this.panes.get(this.file)?.rows ?? [];
    this.pin(rows, state);
    const row = place && place.file === this.file ? rows[place.line - 1] : null;
    if (!row) return;
    row.classList.add("current", event.event === "mistake" ? "mistake" : running ? "running" : "waiting");
    this.pinned.push(row);
    this.reveal(row);
  }

  pin(rows, state) {
    const pins = new Map();
    for (const task of state.tasks.values()) {
      if (!task.place || task.place.file !== this.file || !rows[task.place.line - 1]) continue;
      const key = `${task.place.line} ${task.state}`;
      if (!pins.has(key)) pins.set(key, []);
      pins.get(key).push(task);
    }
    for (const tasks of pins.values()) {
      const row = rows[tasks[0].place.line - 1];
      let holder = row.querySelector(".pins");
      if (!holder) row.append((holder = element("span", { class: "pins" })));
      const state = tasks[0].state;
      const label = tasks.length > 2 ? `${tasks[0].name} +${tasks.length - 1}` : tasks.map((t) => t.name).join(", ");
      holder.append(
        element(
          "button",
          {
            type: "button",
            tabindex: -1,
            class: `pin ${state}`,
            title: `${label}: ${state}`,
            onclick: () => this.choose(tasks[0].number),
          },
          icon(state === "running" ? "run" : state === "ready" ? "ready" : "pause"),
          label,
        ),
      );
      row.classList.add(state);
      this.pinned.push(row);
    }
  }

  // Scrolls the pane, never the page.
  reveal(row) {
    const pane = this.pane;
    const above = row.offsetTop - pane.offsetTop;
    const margin = Math.min(72, pane.clientHeight / 4);
    if (above < pane.scrollTop + margin || above + row.offsetHeight > pane.scrollTop + pane.clientHeight - margin) {
      pane.scrollTop = above - pane.clientHeight / 3;
    }
  }
}
