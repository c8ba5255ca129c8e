// Words and numbers, as the page says them.

const BLANKS = /\s+/g;

// 0.00013 -> "130 µs", 1.2 -> "1.200 s"
function duration(seconds, digits = 3) {
  if (seconds == null || !Number.isFinite(seconds)) return "";
  const size = Math.abs(seconds);
  if (size >= 120) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (size >= 0.9995) return `${trim(seconds, digits)} s`;
  if (size >= 0.0009995) return `${trim(seconds * 1e3, digits)} ms`;
  if (size === 0) return "0 s";
  return `${size < 1e-6 ? trim(seconds * 1e6, 2) : Math.round(seconds * 1e6)} µs`;
}

function trim(value, digits) {
  const whole = Math.max(1, Math.floor(Math.log10(Math.abs(value) || 1)) + 1);
  return value.toFixed(Math.min(3, Math.max(0, digits - whole)));
}

// The moment's time: never fewer digits than tell two neighbouring events apart.
function clockTime(seconds) {
  if (seconds >= 120) return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(3).padStart(6, "0")}`;
  return seconds >= 1 ? `${seconds.toFixed(4)} s` : `${(seconds * 1e3).toFixed(seconds < 0.1 ? 3 : 2)} ms`;
}

function count(number, word) {
  return `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
}

function names(run, numbers, most = 3) {
  const shown = numbers.slice(0, most).map((number) => run.name(number));
  if (numbers.length > most) return `${shown.join(", ")} and ${numbers.length - most} more`;
  return shown.join(", ");
}

// What a wait is for: tasks, and futures that are none.
function awaited(run, wait, most) {
  return [names(run, wait.tasks ?? [], most), wait.futures ? count(wait.futures, "future") : ""].filter(Boolean).join(", ");
}

// Which box a waiting task stands in.
function boxOf(wait) {
  switch (wait?.kind) {
    case "timer":
      return "timers";
    case "socket":
    case "child":
    case "signal":
      return "os";
    case "any":
      return boxOf(mainWait(wait));
    default:
      return "others";
  }
}

// Of several things that may end a wait, the one that is hoped for: the timer beside it is only the time-out.
function mainWait(wait) {
  if (wait?.kind !== "any") return wait;
  const parts = wait.of ?? [];
  return mainWait(parts.find((part) => part.kind !== "timer") ?? parts[0]);
}

function timerOf(wait) {
  if (wait?.kind === "timer") return wait;
  if (wait?.kind === "any") return (wait.of ?? []).map(timerOf).find(Boolean) ?? null;
  return null;
}

const SYNCHRONISERS = {
  "queue-get": "an item of",
  "queue-put": "room in",
  lock: "lock",
  event: "event",
  "queue-join": "the last task_done() of",
  condition: "condition",
  semaphore: "semaphore",
  barrier: "barrier",
};

// Short, for a bar of the timeline.
function waitLabel(run, wait) {
  wait = mainWait(wait);
  switch (wait?.kind) {
    case "timer":
      return wait.timer ? `timer ${wait.timer}` : "timer";
    case "task":
      return awaited(run, wait, 1);
    case "socket":
      return wait.peer ? `${wait.direction ?? "socket"} ${wait.peer}` : `socket ${wait.fd ?? ""}`;
    case "child":
      return `process ${wait.pid ?? ""}`;
    case "thread":
      return `${wait.process ? "process" : "thread"}${wait.job ? ` ${wait.job}` : ""}`;
    case undefined:
      return "";
    default:
      return wait.kind.replace("-", " ");
  }
}

// In full, for a box: [what, detail].
function waitWords(run, wait, i) {
  wait = mainWait(wait);
  switch (wait?.kind) {
    case "timer":
      return [wait.timer ? `timer ${wait.timer}` : "timer", ""];
    case "task":
      return [`the end of ${awaited(run, wait)}`, ""];
    case "gather":
      return ["gather", awaited(run, wait)];
    case "socket":
      return [
        wait.direction === "write" ? "room to write to" : wait.direction === "read" ? "bytes from" : "socket",
        [wait.peer, wait.fd != null && `socket ${wait.fd}`].filter(Boolean).join(" · "),
      ];
    case "thread":
      return [wait.process ? "another process" : "a thread", wait.job ?? ""];
    case "child":
      return ["the end of process", String(wait.pid ?? "")];
    case "signal":
      return ["a signal", ""];
    case "future":
      // "the connection" says it all; the repr of a future does not.
      return wait.on?.startsWith("the ") ? [wait.on, ""] : ["a future", wait.on ?? ""];
    case "nobody":
      return ["nobody", "nothing is known that could end this wait"];
    case undefined:
      return ["", ""];
    default: {
      const held = wait.holder && !run.hasEnded(wait.holder, i) ? `held by ${run.name(wait.holder)}` : "";
      const what = SYNCHRONISERS[wait.kind] ?? wait.kind;
      const on = wait.on?.toLowerCase() === what ? "" : (wait.on ?? "");
      if (on.length > 16) return [what, [on, held].filter(Boolean).join(" · ")];
      return [`${what} ${on}`.trim(), held];
    }
  }
}

function causeWords(run, event) {
  if (event.event === "queued") return event.by?.task ? `made by ${run.name(event.by.task)}` : "made by the loop";
  const cause = event.because;
  switch (cause?.kind) {
    case "timer":
      return cause.timer ? `timer ${cause.timer}` : "a timer";
    case "socket":
      return `socket ${cause.fd ?? ""}`.trim();
    case "task":
      return run.name(cause.task);
    case "thread":
      return "a thread";
    case "signal":
      return `signal ${cause.number ?? ""}`.trim();
    case "child":
      return `process ${cause.pid ?? ""}`.trim();
    case "cancel":
      return cause.task ? `cancelled by ${run.name(cause.task)}` : "cancelled";
    case "outside":
      return "something outside";
    default:
      return event.event === "ready" ? "its next turn" : "";
  }
}

const MISTAKES = {
  blocked: "The loop was blocked",
  slow: "A slow step",
  "never-awaited": "A coroutine was never awaited",
  "unkept-task": "Nobody keeps this task",
  "never-retrieved": "An exception was never retrieved",
  "pending-at-exit": "Still pending at exit",
};

// The first sentence of an event's text, and what follows it. A full stop within `code` ends nothing.
function sentences(event) {
  const lines = (event.text ?? "").split("\n").map((line) => line.trim().replace(BLANKS, " "));
  const [first = event.event, ...rest] = lines
    .flatMap((line) => line.split(/(?<=[.!?]) (?=\p{Lu})(?=(?:[^`]*`[^`]*`)*[^`]*$)/u))
    .filter(Boolean);
  return [first, rest];
}
