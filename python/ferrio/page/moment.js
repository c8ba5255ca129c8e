// The sentence of the moment, and why it came to this.

class MomentText {
  constructor(run, go) {
    this.run = run;
    this.go = go;
    this.spoken = byId("moment");
    this.trail = byId("because");
  }

  show(i) {
    const event = this.run.events[i];
    const name = event.task ? this.run.name(event.task) : null;
    const [first, rest] = sentences(event);
    this.spoken.className = `event-${event.event} ${event.outcome ?? ""}`;
    this.spoken.replaceChildren(
      element(
        "p",
        { class: "when" },
        element("span", { class: "badge" }, icon(event.event)),
        element("span", { class: "clock" }, clockTime(event.t ?? 0)),
        element("span", { class: "of", "aria-hidden": "true" }, `${i + 1} / ${this.run.length}`),
      ),
    );
    if (event.event === "output") {
      this.says(name, name ? `${name} prints` : "The program prints");
      this.spoken.append(element("pre", {}, (event.output ?? "").trimEnd()));
    } else {
      this.says(name, first);
      // The bill has its own place, with bars.
      if (event.event !== "bill") this.spoken.append(element("p", { class: "rest" }, ...prose(rest.join(" "))));
    }
    this.because(i, event);
  }

  // The sentence; the task's name in it stands out if it begins with it.
  says(name, text) {
    const named = name && text.startsWith(`${name} `);
    const rest = prose(named ? text.slice(name.length) : text);
    this.spoken.append(element("p", { class: "says" }, named && element("b", {}, name), ...rest));
  }

  // The measured parts of this event, then the chain of those who woke each other, the latest first.
  because(i, event) {
    const parts = [];
    const fact = (label, seconds, said) => {
      if (!(seconds > 0) || said.test(event.text)) return; // the sentence has said it
      parts.push(element("span", { class: "fact" }, `${label} `, element("b", {}, duration(seconds))));
    };
    fact("in the ready queue", event.waited, /ready queue/);
    fact("ran", event.ran, /\bran\b/);
    fact("slept", event.slept, /\bafter\b|slept/);
    fact("late", event.late, /\blate\b/);
    fact("cost", event.cost, /\bfor \d/);
    const hops = this.run.chain(i);
    if (hops.length && event.event !== "bill") {
      const chain = element("span", { class: "chain" });
      let said = event.task ? this.run.name(event.task) : null;
      for (const k of hops) {
        const hop = this.run.events[k];
        const cause =
          hop.event === "queued" ? (hop.by?.task ? this.run.name(hop.by.task) : "the loop") : causeWords(this.run, hop);
        if (!cause || cause === said) continue;
        const verb = hop.event === "queued" ? "made by " : "woken by ";
        chain.append(
          chain.hasChildNodes() ? " ← " : said ? verb : "in a step of ",
          element("button", { type: "button", title: hop.text, onclick: () => this.go(k) }, cause),
        );
        said = cause;
      }
      parts.push(chain);
    }
    this.trail.replaceChildren(...parts);
  }
}
