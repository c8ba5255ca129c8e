// The lanes: one for the loop and one for each task, and the strip above them that shows the whole run.
// Only what is in the window is drawn, so that a long run costs no more than a short one.

const COLOURS = "ink muted line card run ready wait wait-text sleep alarm accent band".split(" ");
const ROW = 26;
const RULER = 28;
const EDGE = 9; // half a thumb: the strip and the lanes begin and end where the scrubber does
const FEW = 12; // up to so many tasks, all lanes are shown; beyond, those that live in the window
const ROOM = 9; // pixels for one event in a run that does not fit

class Timeline {
  constructor(run, { seek, choose }) {
    this.run = run;
    this.seek = seek;
    this.choose = choose;
    this.pane = byId("lanes");
    this.tall = this.pane.firstElementChild;
    this.canvas = this.pane.querySelector("canvas");
    this.overview = byId("overview");
    this.tip = byId("tip");
    this.lanes = [...run.lanes.values()];
    this.scroll = 0;
    this.listen();
  }

  // A new scale, size or theme: everything is measured anew.
  measure(scale) {
    const style = getComputedStyle(document.documentElement);
    this.colours = {};
    for (const name of COLOURS) {
      this.colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.mono = style.getPropertyValue("--mono");
    this.sans = style.getPropertyValue("--sans");
    this.width = Math.max(200, this.pane.clientWidth);
    const longest = Math.max(...this.lanes.slice(0, 200).map((lane) => lane.name.length));
    this.label = Math.min(this.width < 560 ? 84 : 160, Math.max(48, longest * 7.3 + 18));
    if (this.scale !== scale) this.zoom = null;
    this.scale = scale;
    const fitting = this.room / scale.width;
    if (this.zoom === null) this.zoom = scale.kind === "real" || fitting > ROOM * 0.7 ? fitting : ROOM;
    this.zoom = Math.max(this.zoom, fitting);
    this.from = Math.min(this.from ?? 0, Math.max(0, scale.width - this.room / this.zoom));
    byId("scrub").style.marginInlineStart = `${this.label - EDGE}px`;
    this.drawOverview();
  }

  get room() {
    return this.width - this.label - EDGE;
  }

  get to() {
    return this.from + this.room / this.zoom;
  }

  fits() {
    return this.room / this.zoom >= this.scale.width * 0.999;
  }

  px(x) {
    return this.label + (x - this.from) * this.zoom;
  }

  // Zooms about the cursor.
  zoomBy(factor) {
    const at = this.position ?? 0;
    const part = (at - this.from) * this.zoom;
    this.zoom = Math.min(Math.max(this.zoom * factor, this.room / this.scale.width), this.largestZoom());
    this.from = Math.max(0, Math.min(at - part / this.zoom, this.scale.width - this.room / this.zoom));
    this.draw(this.position, this.i, this.chosen);
  }

  largestZoom() {
    return this.scale.kind === "real" ? 2e7 : 120;
  }

  // Keeps the cursor in the window: a page further when it leaves.
  follow(x) {
    const span = this.to - this.from;
    if (x < this.from || x > this.from + span * 0.96) this.from = x - span * (x < this.from ? 0.6 : 0.08);
    this.from = Math.max(0, Math.min(this.from, this.scale.width - span));
  }

  shown() {
    if (this.lanes.length - 1 <= FEW) return this.lanes;
    const first = this.scale.index(this.from);
    const last = this.scale.index(this.to);
    return this.lanes.filter((lane) => lane.born <= last && (lane.ended ?? Infinity) >= first);
  }

  draw(position, i, chosen) {
    this.position = position;
    this.i = i;
    this.chosen = chosen;
    this.follow(position);
    const rows = (this.rows = this.shown());
    const height = RULER + rows.length * ROW + 6;
    this.tall.style.blockSize = `${height}px`;
    const view = Math.min(height, this.pane.clientHeight || height);
    this.bringIn(this.run.events[i].task, rows, view);
    const pen = (this.pen = context(this.canvas, this.width, view));
    const down = this.pane.scrollTop;
    this.y = new Map(rows.map((lane, k) => [lane.number, RULER + k * ROW + ROW / 2 - down]));
    pen.clearRect(0, 0, this.width, view);
    pen.save();
    pen.beginPath();
    pen.rect(this.label, 0, this.width - this.label, view);
    pen.clip();
    this.drawNights(view);
    const seen = rows.filter((lane) => this.y.get(lane.number) > -ROW && this.y.get(lane.number) < view + ROW);
    for (const lane of seen) this.drawLane(lane);
    this.drawArrows(false);
    pen.restore();
    this.drawRuler(view);
    for (const lane of seen) this.drawLabel(lane);
    this.drawCursor(view);
    this.drawArrows(true);
  }

  // Scrolls to the lane of the task that the moment is about, once per moment.
  bringIn(number, rows, view) {
    if (this.broughtIn === this.i) return;
    this.broughtIn = this.i;
    const top = rows.findIndex((lane) => lane.number === number) * ROW;
    if (top < 0) return;
    const down = this.pane.scrollTop;
    if (top < down || top + RULER + ROW > down + view) this.pane.scrollTop = Math.max(0, top - (view - RULER) / 2);
  }

  // The window's part of something sorted by event; each reaches from the one index to the other.
  *inWindow(list, begin, end) {
    const first = this.scale.index(this.from) - 1;
    const last = this.scale.index(this.to) + 1;
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle][end] < first) low = middle + 1;
      else high = middle;
    }
    for (let k = Math.max(0, low - 1); k < list.length; k++) {
      if (list[k][begin] > last) return;
      yield list[k];
    }
  }

  drawNights(view) {
    const { pen } = this;
    for (const { from, to } of this.inWindow(this.run.lanes.get(LOOP).segments, "from", "to")) {
      const left = this.px(this.scale.x[from]);
      const right = this.px(this.scale.x[to]);
      pen.fillStyle = this.colours.band;
      pen.fillRect(left, RULER, Math.max(1, right - left), view);
    }
  }

  drawLane(lane) {
    const { pen, scale, colours } = this;
    const y = this.y.get(lane.number);
    pen.fillStyle = colours.line;
    pen.fillRect(this.label, Math.round(y + ROW / 2) - 1, this.width, 1);
    pen.font = `11px ${this.sans}`;
    pen.textBaseline = "middle";
    let covered = -Infinity; // to here, so that a run that is zoomed out does not paint each pixel a hundred times
    for (const segment of this.inWindow(lane.segments, "from", "to")) {
      const left = this.px(scale.x[segment.from]);
      if (segment.state !== "running" && this.px(scale.x[segment.to]) < covered) continue;
      const right = Math.max(left + 1.5, this.px(scale.x[segment.to]));
      const from = Math.max(left, this.label);
      const until = Math.min(right, this.width);
      if (segment.state === "running") {
        pen.fillStyle = segment.blocked ? colours.alarm : colours.run;
        if (right > covered + 0.5) rounded(pen, left, y - 8, right - left, 16, 3);
        covered = right;
        if (segment.blocked) this.write(`blocked ${duration(segment.blocked)}`, from, until, y, colours.card, null);
      } else if (segment.state === "ready") {
        pen.fillStyle = colours.ready;
        rounded(pen, left, y - 4, right - left, 8, 2);
      } else if (segment.state === "asleep") {
        const slept = this.run.times[segment.to] - this.run.times[segment.from];
        this.write(`asleep ${duration(slept, 3)}`, from, until, y, colours.sleep);
      } else {
        const nobody = mainWait(segment.wait)?.kind === "nobody";
        pen.fillStyle = nobody ? colours.alarm : colours.wait;
        pen.fillRect(left, y - 1, right - left, 2);
        this.write(waitLabel(this.run, segment.wait), from, until, y, nobody ? colours.alarm : colours["wait-text"]);
      }
    }
    if (lane.ended !== null && lane.number !== LOOP) {
      this.drawEnd(lane, this.px(scale.x[lane.ended]), y);
    }
  }

  // A square for a return, a cross for anything else.
  drawEnd(lane, x, y) {
    const { pen, colours } = this;
    if (lane.outcome === "returned") {
      pen.fillStyle = colours.ink;
      pen.fillRect(x, y - 8, 2.5, 16);
      return;
    }
    pen.strokeStyle = colours.alarm;
    pen.lineWidth = 2;
    pen.beginPath();
    for (const slope of [1, -1]) {
      pen.moveTo(x + 3, y - 4 * slope);
      pen.lineTo(x + 11, y + 4 * slope);
    }
    pen.stroke();
  }

  // A label in the middle of a bar, where there is room for it.
  write(text, left, right, y, colour, ground = this.colours.card) {
    const { pen } = this;
    if (!text || right - left < 36) return;
    const width = pen.measureText(text).width;
    if (width > right - left - 14) return;
    const x = (left + right - width) / 2;
    if (ground) {
      pen.fillStyle = ground;
      pen.fillRect(x - 4, y - 7, width + 8, 14);
    }
    pen.fillStyle = colour;
    pen.fillText(text, x, y + 0.5);
  }

  // Those of the moment come last, over the cursor.
  drawArrows(ofNow) {
    const { pen, colours } = this;
    const few = this.zoom * (this.scale.width / this.run.length) > 5;
    for (const arrow of this.inWindow(this.run.arrows, "i", "i")) {
      const now = arrow.i === this.i;
      if (now !== ofNow || (!few && !now)) continue;
      const from = this.y.get(arrow.from);
      const to = this.y.get(arrow.to);
      if (from === undefined || to === undefined) continue;
      const x = Math.round(this.px(this.scale.x[arrow.i])) + 0.5;
      const down = to > from ? 1 : -1;
      const tip = to - down * 5;
      pen.strokeStyle = pen.fillStyle = now ? colours.accent : colours.muted;
      pen.globalAlpha = now ? 1 : 0.75;
      pen.lineWidth = now ? 2 : 1;
      pen.setLineDash(arrow.kind === "queued" ? [2, 2] : []);
      pen.beginPath();
      pen.moveTo(x, from);
      pen.lineTo(x, tip - down * 3);
      pen.stroke();
      pen.setLineDash([]);
      pen.beginPath();
      pen.arc(x, from, now ? 3 : 2, 0, 7);
      pen.fill();
      pen.beginPath();
      pen.moveTo(x, tip);
      pen.lineTo(x - 3.5, tip - down * 6);
      pen.lineTo(x + 3.5, tip - down * 6);
      pen.fill();
      pen.globalAlpha = 1;
    }
  }

  drawRuler(view) {
    const { pen, colours } = this;
    pen.fillStyle = colours.card;
    pen.fillRect(0, 0, this.width, RULER);
    pen.font = `11px ${this.sans}`;
    pen.textBaseline = "middle";
    for (const { x, label } of this.scale.ticks(this.from, this.to, 82 / this.zoom)) {
      const left = this.px(x);
      pen.fillStyle = colours.line;
      pen.fillRect(Math.round(left), RULER - 6, 1, 6);
      pen.fillStyle = colours.muted;
      if (left + pen.measureText(label).width < this.width) pen.fillText(label, left + 4, 8);
    }
    pen.fillStyle = colours.line;
    pen.fillRect(this.label, RULER - 1, this.width, 1);
    for (const i of this.run.mistakes) {
      const x = this.px(this.scale.x[i]);
      if (x < this.label || x > this.width) continue;
      pen.fillStyle = colours.alarm;
      pen.globalAlpha = 0.5;
      pen.fillRect(Math.round(x), RULER, 1, view);
      pen.globalAlpha = 1;
      pen.beginPath();
      pen.moveTo(x - 5, RULER - 11);
      pen.lineTo(x + 6.5, RULER - 11);
      pen.lineTo(x + 0.75, RULER - 1);
      pen.fill();
    }
  }

  drawLabel(lane) {
    const { pen, colours } = this;
    const y = this.y.get(lane.number);
    if (y < RULER) return;
    const { name } = lane;
    const chosen = this.chosen === lane.number;
    if (chosen) {
      pen.fillStyle = colours.accent;
      pen.fillRect(0, y - 9, 3, 18);
    }
    pen.font = lane.number === LOOP ? `12px ${this.sans}` : `${chosen ? 600 : 400} 12px ${this.mono}`;
    pen.fillStyle = lane.number === LOOP ? colours.muted : colours.ink;
    pen.globalAlpha = lane.number !== LOOP && (lane.born > this.i || (lane.ended ?? Infinity) <= this.i) ? 0.45 : 1;
    pen.textBaseline = "middle";
    pen.fillText(shortened(pen, name, this.label - 16), 8, y);
    pen.globalAlpha = 1;
  }

  drawCursor(view) {
    const { pen } = this;
    const x = Math.round(this.px(this.position));
    pen.fillStyle = this.colours.ink;
    pen.fillRect(x - 0.5, RULER - 8, 1.5, view);
    pen.beginPath();
    pen.arc(x + 0.25, RULER - 8, 4, 0, 7);
    pen.fill();
  }

  // The whole run in one strip: where Python ran, where the thread slept, where something is wrong.
  drawOverview() {
    const width = this.overview.clientWidth;
    const height = this.overview.clientHeight;
    if (!width) return;
    const pen = context(this.overview, width, height);
    const { scale, run, colours } = this;
    const room = width - 2 * EDGE;
    const px = (x) => EDGE + (x / scale.width) * room;
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = colours.line;
    pen.fillRect(EDGE, height / 2 - 1, room, 2);
    pen.fillStyle = colours.sleep;
    pen.globalAlpha = 0.45;
    for (const { from, to } of run.lanes.get(LOOP).segments) {
      pen.fillRect(px(scale.x[from]), height / 2 - 3, Math.max(0.7, px(scale.x[to]) - px(scale.x[from])), 6);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = colours.run;
    this.busy(room).forEach((share, pixel) => {
      if (!share) return;
      pen.globalAlpha = 0.2 + 0.8 * Math.min(1, share);
      pen.fillRect(EDGE + pixel, height / 2 - 6, 1, 12);
    });
    pen.globalAlpha = 1;
    pen.fillStyle = colours.alarm;
    for (const i of run.mistakes) {
      const x = px(scale.x[i]);
      pen.beginPath();
      pen.moveTo(x - 4.5, 1);
      pen.lineTo(x + 4.5, 1);
      pen.lineTo(x, 9);
      pen.fill();
    }
  }

  // For each pixel of the strip, the part of it in which a task ran.
  busy(pixels) {
    const shares = new Float32Array(Math.ceil(pixels));
    const { x, width } = this.scale;
    for (const lane of this.lanes) {
      for (const { from, to, state } of lane.segments) {
        if (state !== "running") continue;
        const left = (x[from] / width) * pixels;
        const right = (x[to] / width) * pixels;
        for (let pixel = Math.floor(left); pixel <= right && pixel < shares.length; pixel++) {
          shares[pixel] += Math.min(right, pixel + 1) - Math.max(left, pixel);
        }
      }
    }
    return shares;
  }

  listen() {
    let dragging = false;
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const scrub = ({ x }) => this.seek(this.scale.nearest(this.from + (x - this.label) / this.zoom));
    this.canvas.addEventListener("pointerdown", (event) => {
      const point = at(event);
      if (point.x < this.label) {
        const lane = this.laneAt(point.y);
        if (lane?.number) this.choose(lane.number);
        return;
      }
      // A finger scrolls; it scrubs on the strip, and a tap goes to a moment.
      dragging = event.pointerType !== "touch";
      if (dragging) this.canvas.setPointerCapture(event.pointerId);
      scrub(point);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (dragging) scrub(at(event));
      this.explain(at(event), event);
    });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => (dragging = false));
    this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.pane.addEventListener("scroll", () => this.draw(this.position, this.i, this.chosen));
    this.canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && Math.abs(event.deltaX) <= Math.abs(event.deltaY)) return;
        event.preventDefault();
        if (event.ctrlKey) return this.zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2);
        this.seek(this.scale.nearest(this.position + event.deltaX / this.zoom));
      },
      { passive: false },
    );
  }

  laneAt(y) {
    return this.rows.find((lane) => Math.abs(this.y.get(lane.number) - y) <= ROW / 2);
  }

  // What is under the pointer, in words.
  explain(point, event) {
    const lane = this.laneAt(point.y);
    const i = this.scale.index(this.from + (point.x - this.label) / this.zoom);
    const segment = lane?.segments.findLast((each) => each.from <= i && each.to > i);
    this.tip.hidden = !segment || point.x < this.label || point.y < RULER;
    if (this.tip.hidden) return;
    const took = duration(this.run.times[segment.to] - this.run.times[segment.from]);
    const { run } = this;
    const began = run.events[segment.from];
    const lines = [];
    const code = began.code && `line ${began.line}: ${began.code}`;
    if (segment.state === "asleep") lines.push(`The thread slept ${took}: nobody was ready.`);
    else if (segment.state === "running") lines.push(`${lane.name} ran ${took}`, code);
    else if (segment.state === "ready") {
      lines.push(`${lane.name} was ready and stood in the queue ${took}`, causeWords(run, began));
    } else {
      const what = waitWords(run, segment.wait, i).filter(Boolean).join(": ");
      lines.push(`${lane.name} waited ${took}`, what && `for ${what}`, code);
    }
    this.tip.replaceChildren(...lines.filter(Boolean).map((line, k) => element(k ? "span" : "b", {}, line)));
    const width = Math.min(340, innerWidth - 24);
    this.tip.style.maxInlineSize = `${width}px`;
    this.tip.style.left = `${Math.max(12, Math.min(event.clientX + 12, innerWidth - this.tip.offsetWidth - 12))}px`;
    this.tip.style.top = `${Math.max(8, event.clientY - this.tip.offsetHeight - 12)}px`;
  }
}

function context(canvas, width, height) {
  const dots = devicePixelRatio || 1;
  const across = Math.round(width * dots);
  const down = Math.round(height * dots);
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across;
    canvas.height = down;
    canvas.style.inlineSize = `${width}px`;
    canvas.style.blockSize = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  return pen;
}

function rounded(pen, x, y, width, height, radius) {
  if (width < 3) return pen.fillRect(x, y, width, height);
  pen.beginPath();
  pen.roundRect(x, y, width, height, Math.min(radius, width / 2));
  pen.fill();
}

function shortened(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let kept = text.length;
  while (kept > 1 && pen.measureText(`${text.slice(0, kept)}…`).width > room) kept -= 1;
  return `${text.slice(0, kept)}…`;
}
