// From events to positions on the timeline's axis, in units of which the player covers one a second at speed 1.
//
// "folded": every event has room, and time between events counts by its logarithm, so that 20 µs of work are seen
// beside 2 s of sleep. "real": a unit is a second.

const FOLD = 20e-6; // seconds from which on a gap is squeezed
const STRETCH = 0.35;

class Scale {
  constructor(times, kind) {
    this.kind = kind;
    this.times = times;
    const x = (this.x = new Float64Array(times.length));
    if (kind === "real") {
      const start = times[0];
      times.forEach((time, i) => (x[i] = time - start));
    } else {
      for (let i = 1; i < times.length; i++) {
        x[i] = x[i - 1] + 1 + STRETCH * Math.log1p((times[i] - times[i - 1]) / FOLD);
      }
    }
    const end = x[x.length - 1];
    this.width = kind === "real" ? end * 1.01 || 1 : end + 1;
  }

  // The last event at or before x.
  index(x) {
    let low = 0;
    let high = this.x.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.x[middle] <= x) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // The event that is nearest to x.
  nearest(x) {
    const i = this.index(x);
    const next = Math.min(i + 1, this.x.length - 1);
    return this.x[next] - x < x - this.x[i] ? next : i;
  }

  // The time at x: between two events it passes evenly.
  time(x) {
    const i = this.index(x);
    if (i + 1 >= this.x.length) return this.times[i];
    const room = this.x[i + 1] - this.x[i];
    const part = room > 0 ? (x - this.x[i]) / room : 0;
    return this.times[i] + part * (this.times[i + 1] - this.times[i]);
  }

  // Where to write times along [from, to], at least `apart` units from each other.
  ticks(from, to, apart) {
    const found = [];
    if (this.kind === "real") {
      const step = roundUp(apart);
      for (let x = Math.ceil(from / step) * step; x <= to; x += step) {
        // Round steps, round numbers: "1.2 s", not "1.200 s".
        found.push({ x, label: duration(x + this.times[0], 4).replace(/(\.\d*?)0+(?= )/, "$1").replace(". ", " ") });
      }
      return found;
    }
    let room = -Infinity;
    let label = "";
    for (let i = this.index(from); i < this.x.length && this.x[i] <= to; i++) {
      if (this.x[i] < from || this.x[i] < room) continue;
      const next = duration(this.times[i], this.times[i] >= 1 ? 4 : 3);
      if (next === label) continue;
      label = next;
      found.push({ x: this.x[i], label });
      room = this.x[i] + apart;
    }
    return found;
  }
}

// The next of 1, 2, 5, 10, 20, …
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5, 10]) if (step * power >= value) return step * power;
  return 10 * power;
}
