// What the program printed, what was found, and the bill.

const LINKS = 10; // of one chain in the bill
const PRINTED = 300; // pieces of output that are kept in the page

class Output {
  constructor(run, go) {
    this.run = run;
    this.go = go;
    this.pane = byId("output");
  }

  show(i) {
    const { printed, events } = this.run;
    let total = 0;
    while (total < printed.length && printed[total] <= i) total++; // few: one per print()
    const now = events[i].event === "output";
    if (total === this.total && now === this.now) return;
    this.total = total;
    this.now = now;
    if (!total) {
      const why = printed.length ? "Nothing yet." : "It prints nothing.";
      this.pane.replaceChildren(element("span", { class: "none" }, why));
      return;
    }
    const first = Math.max(0, total - PRINTED);
    const pieces = printed.slice(first, total).map((k) => {
      const event = events[k];
      return element(
        "span",
        {
          class: [event.stream === "stderr" && "stderr", k === i && "now"].filter(Boolean).join(" "),
          title: `${event.task ? `${this.run.name(event.task)}, ` : ""}${clockTime(event.t ?? 0)}`,
          onclick: () => this.go(k),
        },
        event.output ?? "",
      );
    });
    if (first) pieces.unshift(element("span", { class: "none" }, `… ${first} earlier\n`));
    this.pane.replaceChildren(...pieces);
    this.pane.scrollTop = this.pane.scrollHeight;
  }
}

function writeFindings(run, go) {
  const place = byId("findings");
  const badge = byId("found");
  if (!run.mistakes.length) return;
  place.hidden = badge.hidden = false;
  const [number, word] = count(run.mistakes.length, "finding").split(" ");
  badge.append(icon("mistake"), number, element("span", { class: "word" }, word));
  const list = element("ol", { class: "findings" });
  for (const i of run.mistakes.slice(0, 100)) {
    const event = run.events[i];
    const [first, rest] = sentences(event);
    const where = [event.name, event.file && event.line && `${event.file}:${event.line}`].filter(Boolean).join(" · ");
    const victims = event.victims ?? [];
    list.append(
      element(
        "li",
        {},
        element(
          "button",
          { type: "button", onclick: () => go(i) },
          element(
            "span",
            { class: "kind" },
            icon("mistake"),
            MISTAKES[event.kind] ?? event.kind,
            event.cost > 0 && element("b", {}, duration(event.cost)),
            element("span", { class: "clock" }, `at ${clockTime(event.t ?? 0)}`),
          ),
          element("span", { class: "says" }, ...prose([first, ...rest].join(" "))),
          where && element("span", { class: "where" }, where),
          event.code && element("code", {}, event.code),
          event.kind === "blocked" &&
            victims.length > 0 &&
            element("span", { class: "where" }, `had to wait: ${names(run, victims, 6)}`),
        ),
      ),
    );
  }
  place.append(element("h2", {}, "Findings"), list);
  if (run.mistakes.length > 100) place.append(element("p", { class: "none" }, `and ${run.mistakes.length - 100} more`));
}

function writeBill(run) {
  const bill = run.bill;
  if (!bill) return;
  const place = byId("bill");
  place.hidden = false;
  const elapsed = bill.elapsed || bill.t || 0;
  const row = (label, seconds, kind) => {
    const fill = element("i");
    fill.style.inlineSize = `${elapsed > 0 ? Math.min(100, (seconds / elapsed) * 100) : 0}%`;
    return element(
      "div",
      { class: `cost ${kind}` },
      element("dt", {}, label),
      element("dd", {}, duration(seconds, 4), element("span", { class: "bar", "aria-hidden": "true" }, fill)),
    );
  };
  const sums = element("dl", {});
  sums.append(row("from start to end", elapsed, "all"));
  if (bill.python != null) sums.append(row("your Python ran", bill.python, "run"));
  if (bill.asleep != null) sums.append(row("asleep in the OS", bill.asleep, "sleep"));
  const whole = element("div", {}, sums);
  place.append(element("h2", {}, "The bill"), element("div", { class: "parts" }, whole));
  const parts = place.lastChild;
  if (bill.one_by_one > elapsed) {
    whole.append(
      element(
        "p",
        { class: "saved" },
        "One after the other, the waits would have taken ",
        element("b", {}, duration(bill.one_by_one, 4)),
        "; together they took ",
        element("b", {}, duration(elapsed, 4)),
        ".",
      ),
    );
  }
  const ran = Object.entries(bill.ran ?? {}).sort((a, b) => b[1] - a[1]);
  if (ran.length) {
    const most = ran[0][1] || 1;
    const list = element("dl", { class: "ran" });
    for (const [number, seconds] of ran.slice(0, 10)) {
      const fill = element("i");
      fill.style.inlineSize = `${(seconds / most) * 100}%`;
      list.append(
        element(
          "div",
          { class: "cost run" },
          element("dt", {}, run.name(Number(number))),
          element("dd", {}, duration(seconds), element("span", { class: "bar", "aria-hidden": "true" }, fill)),
        ),
      );
    }
    if (ran.length > 10) list.append(element("p", { class: "none" }, `and ${count(ran.length - 10, "more task")}`));
    parts.append(element("div", {}, element("h3", {}, "Who ran how long"), list));
  }
  const chains = (bill.chains ?? []).slice(0, 12);
  if (chains.length) {
    const list = element("ul", { class: "chains" });
    for (const chain of chains) {
      const item = element("li");
      const shown = chain.length > LINKS ? [...chain.slice(0, LINKS), "…"] : chain;
      shown.forEach((link, k) => {
        if (k) item.append(element("span", { class: "to" }, "→"), element("wbr"));
        item.append(element("span", {}, linkWords(run, link)));
      });
      list.append(item);
    }
    parts.append(element("div", {}, element("h3", {}, "Who woke whom"), list));
  }
}

function linkWords(run, link) {
  if (typeof link === "number") return run.name(link);
  return typeof link === "string" ? link : causeWords(run, { event: "ready", because: link });
}
