// The run: from the list of events, the state of every task at every moment, and who woke whom.
// Knows nothing of the page. A position is an index into `events`; the state at i is the state after event i.

const LOOP = 0; // the loop's lane; tasks are numbered from 1
const SIGNS = new Set(["start", "resume", "pause", "ready"]);
const CHECKPOINT = 400; // a state is kept every so many events, so that a jump replays few

class State {
  constructor(other) {
    this.tasks = new Map(other?.tasks); // the living: number -> task, replaced and never changed
    this.ready = [...(other?.ready ?? [])]; // numbers, first out first
    this.running = other?.running ?? null;
    this.outer = other?.outer ?? null; // inside of whose step it runs: an eager task's
    this.asleep = other?.asleep ?? null; // the event `asleep`, while it lasts
    this.closed = other?.closed ?? false;
  }

  change(number, changes) {
    const task = { ...this.tasks.get(number), ...changes };
    this.tasks.set(number, task);
    return task;
  }

  apply(event, i) {
    const number = event.task;
    const place = event.file && event.line ? { file: event.file, line: event.line, code: event.code } : null;
    // A recording may begin in the middle of a run: a task is known from its first sign of life.
    if (SIGNS.has(event.event) && !this.tasks.has(number)) {
      this.tasks.set(number, { number, name: event.name ?? `task ${number}`, state: "waiting", wait: null, since: i });
    }
    switch (event.event) {
      case "queued":
        this.tasks.set(number, { number, name: event.name ?? `task ${number}`, state: "ready", since: i });
        if (event.eager) this.change(number, { state: "waiting", eager: true });
        else this.ready.push(number);
        if (place && this.tasks.has(event.by?.task)) this.change(event.by.task, { place });
        break;
      case "start":
      case "resume":
        this.ready = this.ready.filter((other) => other !== number);
        if (event.event === "start" && this.tasks.get(number).eager) this.outer = this.running;
        this.running = number;
        this.asleep = null;
        this.change(number, { state: "running", since: i, wait: null, ...(place && { place }) });
        break;
      case "pause":
        if (this.running === number) [this.running, this.outer] = [this.outer, null];
        // sleep(0) waits for nothing but its next turn: it stands in the queue again.
        if (event.waits?.kind === "turn") this.enqueue(number, i, { ...(place && { place }) });
        else this.change(number, { state: "waiting", since: i, wait: event.waits, ...(place && { place }) });
        break;
      case "ready":
        this.enqueue(number, i, {});
        break;
      case "finish":
        if (this.running === number) [this.running, this.outer] = [this.outer, null];
        this.ready = this.ready.filter((other) => other !== number);
        this.tasks.delete(number);
        break;
      case "cancel":
        if (this.tasks.has(number)) this.change(number, { cancelled: i });
        if (event.at && this.tasks.has(event.by?.task)) this.change(event.by.task, { place: event.at });
        break;
      case "asleep":
        this.asleep = event;
        break;
      case "awake":
        this.asleep = null;
        break;
      case "loop":
        if (event.what === "closed") this.closed = true;
        break;
      case "bill":
        this.asleep = this.running = this.outer = null;
        this.closed = true;
        break;
    }
  }

  enqueue(number, i, changes) {
    if (this.tasks.get(number)?.state === "ready") return;
    this.change(number, { state: "ready", since: i, wait: null, ...changes });
    this.ready.push(number);
  }
}

class Run {
  constructor(list) {
    this.head = list[0]?.event === "head" ? list[0] : {};
    this.events = list.filter((event) => event.event !== "head" && event.event !== "fold");
    if (!this.events.length) this.events = [{ n: 1, t: 0, event: "loop", what: "made", text: "Nothing happened." }];
    this.times = Float64Array.from(this.events, (event) => event.t ?? 0);
    for (let i = 1; i < this.times.length; i++) this.times[i] = Math.max(this.times[i], this.times[i - 1]);
    this.length = this.events.length;
    this.bill = this.events.findLast((event) => event.event === "bill");
    this.mistakes = this.indices((event) => event.event === "mistake");
    this.printed = this.indices((event) => event.event === "output");
    this.steps = this.indices((event) => event.event === "start" || event.event === "resume");
    this.walk();
  }

  indices(wanted) {
    const found = [];
    this.events.forEach((event, i) => wanted(event) && found.push(i));
    return found;
  }

  // One pass: checkpoints, the lanes' segments, the arrows between them, and for each event the one that caused it.
  walk() {
    this.checkpoints = [];
    this.lanes = new Map([[LOOP, { number: LOOP, name: "loop", born: 0, ended: this.length - 1, segments: [] }]]);
    this.arrows = [];
    this.causes = new Int32Array(this.length).fill(-1);
    const last = { step: new Map(), pause: new Map(), ready: new Map(), asleep: -1 };
    const state = new State();
    this.events.forEach((event, i) => {
      this.causes[i] = this.causeOf(event, last);
      state.apply(event, i);
      this.draw(event, i, state);
      this.point(event, i);
      if (event.event === "start" || event.event === "resume") last.step.set(event.task, i);
      if (event.event === "pause") last.pause.set(event.task, i);
      if (event.event === "ready" || event.event === "queued") last.ready.set(event.task, i);
      if (event.event === "asleep") last.asleep = i;
      if (i % CHECKPOINT === 0) this.checkpoints.push(new State(state));
    });
    for (const lane of this.lanes.values()) this.close(lane, this.length - 1);
    for (const i of this.mistakes) {
      const { kind, task, cost } = this.events[i];
      const segment = this.lanes.get(task)?.segments.findLast((each) => each.from <= i && each.state === "running");
      if (segment && kind === "blocked") segment.blocked = cost || true;
    }
  }

  causeOf(event, last) {
    const task = event.task;
    switch (event.event) {
      case "queued":
      case "cancel":
        return last.step.get(event.by?.task) ?? -1;
      case "start":
      case "resume":
        return last.ready.get(task) ?? -1;
      case "ready":
        if (event.because?.task) return last.step.get(event.because.task) ?? -1;
        return last.pause.get(task) ?? -1;
      case "awake":
        return last.asleep;
      default:
        return last.step.get(task) ?? -1;
    }
  }

  draw(event, i, state) {
    const loop = this.lanes.get(LOOP);
    if (event.event === "asleep") this.open(loop, i, "asleep", event);
    else if (loop.segments.at(-1)?.to === null && event.event !== "mistake") this.close(loop, i);
    const number = event.task;
    if (!number) return;
    let lane = this.lanes.get(number);
    if (!lane) {
      lane = { number, name: event.name ?? `task ${number}`, born: i, ended: null, segments: [] };
      this.lanes.set(number, lane);
    }
    if (event.event === "finish") {
      this.close(lane, i);
      lane.ended = i;
      lane.outcome = event.outcome;
      lane.value = event.value;
      return;
    }
    const task = state.tasks.get(number);
    const open = lane.segments.at(-1);
    if (task && (open?.to !== null || open.state !== task.state || task.since === i)) {
      this.open(lane, i, task.state, task.wait);
    }
  }

  open(lane, i, state, wait) {
    this.close(lane, i);
    lane.segments.push({ from: i, to: null, state, wait });
  }

  close(lane, i) {
    const open = lane.segments.at(-1);
    if (open && open.to === null) open.to = i;
  }

  point(event, i) {
    let from = null;
    if (event.event === "queued" || event.event === "cancel") from = event.by?.task ?? LOOP;
    if (event.event === "ready") from = event.because?.task ?? LOOP;
    if (from === null || !event.task || from === event.task) return;
    this.arrows.push({ i, from: this.lanes.has(from) ? from : LOOP, to: event.task, kind: event.event });
  }

  // The state after event i.
  at(i) {
    if (this.recent && i >= this.recent.i && i - this.recent.i < CHECKPOINT) {
      for (let k = this.recent.i + 1; k <= i; k++) this.recent.state.apply(this.events[k], k);
    } else {
      const kept = Math.floor(i / CHECKPOINT);
      const state = new State(this.checkpoints[kept]);
      for (let k = kept * CHECKPOINT + 1; k <= i; k++) state.apply(this.events[k], k);
      this.recent = { state };
    }
    this.recent.i = i;
    return this.recent.state;
  }

  name(number) {
    return number === LOOP ? "loop" : (this.lanes.get(number)?.name ?? `task ${number}`);
  }

  hasEnded(number, i) {
    const ended = this.lanes.get(number)?.ended;
    return ended !== undefined && ended !== null && ended <= i;
  }

  // What led to event i: indices of the events that queued somebody, the latest first, back to what came from outside.
  chain(i, most = 5) {
    const hops = [];
    for (let k = i; k >= 0 && hops.length < most; k = this.causes[k]) {
      const event = this.events[k];
      const hop = event.event === "ready" || event.event === "queued";
      if (hop) hops.push(k);
      if (event.event === "ready" && !event.because?.task) break;
    }
    return hops;
  }

  // The nearest index in a sorted list on the other side of i, or null.
  static beyond(sorted, i, direction) {
    const found = direction > 0 ? sorted.find((k) => k > i) : sorted.findLast((k) => k < i);
    return found ?? null;
  }
}
