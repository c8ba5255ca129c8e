// Where the tasks are: RUNNING, READY, TIMERS, WAITING FOR THE OS, WAITING FOR OTHERS, and who has finished.

const BOXES = [
  ["running", "Running", "The one task whose Python runs now"],
  ["ready", "Ready", "Could go on at once; first come, first served"],
  ["timers", "Timers", "Asleep until a time"],
  ["os", "Waiting for the OS", "Sockets, processes, signals"],
  ["others", "Waiting for others", "Tasks, locks, queues, threads"],
];
const CROWD = 8; // from so many entries on, a box shows groups of like entries
const MOST = 24; // and never more than these

class Boxes {
  constructor(run, choose) {
    this.run = run;
    this.choose = choose;
    this.bars = [];
    this.lists = new Map();
    const place = byId("boxes");
    for (const [key, title, help] of BOXES) {
      const list = element("ul", { class: "entries" });
      const total = element("span", { class: "total" });
      this.lists.set(key, { list, total });
      place.append(
        element(
          "div",
          { class: `card box box-${key}`, data: { box: key } },
          element("h2", { title: help }, title, total),
          list,
        ),
      );
    }
    this.finished = element("p", { class: "finished" });
    place.append(this.finished);
  }

  show(i, state, chosen, glide) {
    const before = glide ? this.positions() : null;
    this.i = i;
    this.chosen = chosen;
    this.bars = [];
    const sorted = { running: [], ready: [], timers: [], os: [], others: [] };
    for (const task of state.tasks.values()) {
      if (task.state === "waiting") {
        const box = boxOf(task.wait);
        sorted[box].push({ task, wait: task.wait });
        const limit = timerOf(task.wait);
        if (limit && box !== "timers") sorted.timers.push({ task, wait: limit, limits: true });
      }
    }
    sorted.timers.sort((a, b) => this.due(a) - this.due(b));
    for (const number of state.ready) sorted.ready.push({ task: state.tasks.get(number) });
    const running = state.tasks.get(state.running);
    if (running) sorted.running.push({ task: running });

    for (const [key, { list, total }] of this.lists) {
      const entries = sorted[key];
      total.textContent = entries.length > 1 ? String(entries.length) : "";
      const rows = entries.length > CROWD ? this.groups(key, entries) : entries.map((entry) => this.entry(key, entry));
      if (rows.length > MOST) {
        const rest = rows.splice(MOST).length;
        rows.push(element("li", { class: "none" }, `and ${rest} more`));
      }
      if (!rows.length) rows.push(element("li", { class: "none" }, this.empty(key, state)));
      list.replaceChildren(...rows);
    }
    this.finish(i);
    if (before) this.glide(before);
  }

  empty(key, state) {
    if (key !== "running") return "–";
    if (state.asleep) return "Nobody. The thread sleeps in the operating system.";
    return state.closed ? "The loop is closed." : "The loop itself";
  }

  chip(task, ghost = false) {
    const classes = ["chip", task.state, this.chosen === task.number && "chosen", ghost && "ghost"];
    return element(
      "button",
      {
        type: "button",
        class: classes.filter(Boolean).join(" "),
        title: "Follow this task with j and k",
        data: ghost ? {} : { task: task.number },
        onclick: () => this.choose(task.number),
      },
      task.name,
    );
  }

  entry(key, { task, wait, limits }) {
    const row = element("li", {}, this.chip(task, limits));
    const say = (text, kind = "detail") => text && row.append(element("span", { class: kind }, text));
    if (key === "running" && task.place) say(`line ${task.place.line}`);
    if (key === "ready") {
      const cause = this.causeAt(task);
      say(cause);
      if (task.cancelled !== undefined) say("to be cancelled", "detail alarm");
    }
    if (key === "timers") {
      say(limits ? "its time limit" : waitWords(this.run, wait, this.i)[0]);
      const left = element("span", { class: "left" });
      const fill = element("i");
      row.append(left, element("span", { class: "bar", "aria-hidden": "true" }, fill));
      this.bars.push({ left, fill, due: this.due({ task, wait }), length: wait.in || 0 });
    }
    if (key === "os" || key === "others") {
      const kind = mainWait(wait)?.kind;
      const [what, detail] = waitWords(this.run, wait, this.i);
      const line = element("span", { class: kind === "nobody" ? "detail alarm" : "detail" }, what);
      if (kind === "gather") line.append(" ", this.pips(mainWait(wait)));
      row.append(line);
      say(detail, "detail more");
    }
    return row;
  }

  // A gather's members as filled and empty dots, and in figures.
  pips(wait) {
    const tasks = wait.tasks ?? [];
    const total = wait.of ?? tasks.length;
    const done = Math.max(wait.done ?? 0, tasks.filter((number) => this.run.hasEnded(number, this.i)).length);
    const dots = total <= 6 ? "●".repeat(done) + "○".repeat(Math.max(0, total - done)) : "";
    const drawn = dots && element("span", { "aria-hidden": "true" }, `${dots} `);
    return element("span", { class: "pips" }, drawn, `${done}/${total}`);
  }

  // Like entries together: those that wait for the same thing at the same line.
  groups(key, entries) {
    const groups = new Map();
    for (const entry of entries) {
      const wait = mainWait(entry.wait);
      const family = entry.task.name.replace(/[#_-]?\d+$/, "");
      const id = [family, wait?.kind, wait?.on, entry.task.place?.line, entry.limits].join("\0");
      if (!groups.has(id)) groups.set(id, []);
      groups.get(id).push(entry);
    }
    return [...groups.values()].map((members) => {
      const row = this.entry(key, members[0]);
      if (members.length > 1) row.querySelector(".chip").append(element("b", {}, ` ×${members.length}`));
      return row;
    });
  }

  causeAt(task) {
    const event = this.run.events[task.since];
    return event.event === "pause" ? "its next turn" : causeWords(this.run, event);
  }

  due({ task, wait }) {
    return this.run.times[task.since] + (timerOf(wait)?.in ?? 0);
  }

  finish(i) {
    let total = 0;
    const last = [];
    for (const lane of this.run.lanes.values()) {
      if (lane.number === LOOP || lane.ended == null || lane.ended > i) continue;
      total += 1;
      last.push(lane);
    }
    last.sort((a, b) => b.ended - a.ended);
    this.finished.replaceChildren(element("span", {}, total ? `Finished ${total}` : "Finished: none yet"));
    for (const lane of last.slice(0, 5)) {
      const how = lane.outcome === "returned" ? (lane.value ?? "") : `${lane.outcome ?? ""} ${lane.value ?? ""}`.trim();
      this.finished.append(
        element(
          "span",
          { class: `done ${lane.outcome ?? ""}`, data: { task: lane.number } },
          element("b", {}, lane.name),
          how && how !== "None" ? ` ${how}` : "",
        ),
      );
    }
  }

  // What shrinks while time passes.
  tick(time) {
    for (const { left, fill, due, length } of this.bars) {
      const rest = Math.max(0, due - time);
      left.textContent = rest > 0 ? `${duration(rest, 2)} left` : "due";
      fill.style.inlineSize = `${length > 0 ? Math.min(1, rest / length) * 100 : 0}%`;
    }
  }

  positions() {
    const found = new Map();
    for (const chip of byId("boxes").querySelectorAll("[data-task]")) {
      found.set(chip.dataset.task, chip.getBoundingClientRect());
      if (found.size > 60) return null;
    }
    return found;
  }

  // Who changed boxes is seen to move.
  glide(before) {
    for (const chip of byId("boxes").querySelectorAll("[data-task]")) {
      const from = before.get(chip.dataset.task);
      if (!from) continue;
      const to = chip.getBoundingClientRect();
      const x = from.left - to.left;
      const y = from.top - to.top;
      if (Math.abs(x) + Math.abs(y) < 2) continue;
      chip.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], {
        duration: 260,
        easing: "cubic-bezier(.2,.7,.2,1)",
      });
    }
  }
}
