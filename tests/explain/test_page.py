"""The page of a run, in a real browser: what a reader sees and does there."""

import json
import math
import re
import time
from importlib import resources

import pytest
from ferrio.page import render

from .browser import MISSING, browser
from .page_samples import SAMPLES, Recorder, tutorial, workers

# --- Without a browser: the file itself.


def test_the_page_is_one_file_that_carries_its_events():
    events = tutorial()
    page = render(iter(events))
    embedded = page.split('id="events">', 1)[1].split("</script>", 1)[0]
    assert json.loads(embedded) == events
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "{{" not in page.replace(embedded, "")


def test_the_code_of_the_page_stays_small():
    assert len(render(tutorial()[:1]).encode()) < 120_000


def test_nothing_in_a_run_ends_the_script_that_carries_it():
    head = {"event": "head", "version": 1, "program": "</title><script>x", "sources": {"a": "</script><!--<script>"}}
    page = render([head, {"event": "output", "t": 0, "text": "</SCRIPT>", "output": "{{script}}\ud800"}])
    assert page.lower().count("</script>") == 3, "the theme's, the events', the page's own"
    assert "&lt;/title&gt;" in page
    page.encode("utf-8")


@pytest.mark.parametrize(
    "events, reason",
    [
        ([], "head"),
        ([{"event": "loop", "n": 1}], "head"),
        ([{"event": "head", "version": 2}], "version 1, not 2"),
        ([{"event": "head", "version": 1}, {"event": "loop", "t": math.nan}], "JSON"),
    ],
)
def test_what_is_no_run_is_refused(events, reason):
    with pytest.raises(ValueError, match=reason):
        render(events)


def test_texts_are_legible_in_both_themes():
    css = resources.files("ferrio.page").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in css.split("}")[:2])
    for colours in (light, light | dark):
        grounds = {
            text: ["card"] for text in ("ink", "muted", "run", "ready-text", "wait-text", "sleep", "alarm", "accent")
        }
        grounds["muted"] += ["bg", "wait-soft", "run-soft"]
        grounds |= {"card": ["run", "ink"], "ink": ["card", "bg", "run-soft", "alarm-soft"]}
        for soft in ("ready", "wait", "alarm"):
            grounds[soft if soft == "alarm" else f"{soft}-text"].append(f"{soft}-soft")
        for text, behind in grounds.items():
            for ground in behind:
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for shape in ("run", "ready", "wait"):
            assert contrast(colours[shape], colours["card"]) >= 3, shape


def contrast(one, other):
    """The ratio that WCAG asks to be 4.5 for text and 3 for shapes."""
    lighter, darker = sorted(map(luminance, (one, other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    channels = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# --- In a browser.


@pytest.fixture(scope="module")
def window():
    if MISSING:
        pytest.skip(MISSING)
    with browser() as window:
        yield window


@pytest.fixture
def show(window, tmp_path):
    def show(events, n=1, **options):
        path = tmp_path / "page.html"
        path.write_text(render(events), encoding="utf-8")
        window.open(f"{path.as_uri()}#n={n}", **options)
        return window

    yield show
    assert window.errors() == []
    assert window.requested() == []


def at(window):
    """The number of the event that is shown."""
    return int(window.text("#moment .of").split("/")[0])


def tasks(window):
    """Which tasks stand in which box, in their order."""
    return window.run("""
        return Object.fromEntries([...document.querySelectorAll(".box")].map((box) =>
            [box.dataset.box, [...box.querySelectorAll(".chip[data-task]")].map((chip) => chip.textContent)]))
    """)


def number(events, wanted):
    """The number of the first event that has these fields."""
    return next(event["n"] for event in events[1:] if wanted.items() <= event.items())


@pytest.mark.parametrize("size", [(1440, 900), (1024, 768), (390, 844), (320, 568)], ids=lambda size: f"{size[0]}px")
@pytest.mark.parametrize("sample", SAMPLES)
def test_it_fits_every_screen(show, sample, size):
    width, height = size
    events = SAMPLES[sample]()
    for n in (1, len(events) // 2, len(events) - 1):
        window = show(events, n, width=width, height=height, mobile=width < 500)
        assert window.run("return document.documentElement.scrollWidth") <= width
        outside = window.run(
            """return [...document.querySelectorAll("main *, header *")].filter((e) =>
                !e.closest("#code, #output, .finished") && e.getClientRects().length
                && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)"""
        )
        assert outside == []


def test_arrows_go_through_every_event_and_back(show):
    events = tutorial()
    window = show(events)
    for event in events[1:]:
        assert at(window) == event["n"]
        said = window.text("#moment")
        last_words = (event["output"] if event["event"] == "output" else event["text"].split("\n")[0]).split()[-1]
        assert last_words.replace("`", "") in said
        window.press("ArrowRight")
    assert at(window) == events[-1]["n"], "the end stays the end"
    for event in events[-2:0:-1]:
        window.press("ArrowLeft")
        assert at(window) == event["n"]
    window.press("End")
    assert at(window) == events[-1]["n"]
    window.press("Home")
    assert at(window) == 1


def test_tasks_stand_in_the_right_boxes(show):
    events = tutorial()
    window = show(events, number(events, {"event": "queued", "name": "task_b"}))
    nobody = {"running": [], "ready": [], "timers": [], "os": [], "others": []}
    assert tasks(window) == nobody | {"running": ["main"], "ready": ["task_a", "task_b"]}
    window = show(events, number(events, {"event": "asleep"}))
    assert tasks(window) == nobody | {"timers": ["task_b", "task_a"], "others": ["main"]}
    assert "0/2" in window.text(".box-others")
    assert "sleeps in the operating system" in window.text(".box-running")
    window = show(events, number(events, {"event": "finish", "name": "task_b"}))
    assert tasks(window) == nobody | {"timers": ["task_a"], "others": ["main"]}
    assert "1/2" in window.text(".box-others")
    assert "task_b 'b'" in window.text(".finished")
    window.press("End")
    assert tasks(window) == nobody


def test_an_eager_task_runs_in_front_of_who_made_it(show):
    told = [
        {"event": "queued", "task": 1, "name": "main", "by": {"loop": True}, "text": "main is made a task."},
        {"event": "start", "task": 1, "text": "main starts."},
        {"event": "queued", "task": 2, "name": "fetch", "by": {"task": 1}, "eager": True, "text": "fetch is made."},
        {"event": "start", "task": 2, "text": "fetch starts."},
        {"event": "pause", "task": 2, "waits": {"kind": "timer", "timer": 1, "in": 1}, "text": "fetch waits."},
        {"event": "pause", "task": 1, "waits": {"kind": "task", "tasks": [2]}, "text": "main waits."},
    ]
    head = {"event": "head", "version": 1, "program": "eager.py", "sources": {}}
    window = show([head, *({"n": n, "t": 0.0} | event for n, event in enumerate(told, 1))])
    seen = []
    for _ in told:
        seen.append({box: chips for box, chips in tasks(window).items() if chips})
        window.press("ArrowRight")
    assert seen == [
        {"ready": ["main"]},
        {"running": ["main"]},
        {"running": ["main"], "others": ["fetch"]},
        {"running": ["fetch"]},
        {"running": ["main"], "timers": ["fetch"]},
        {"timers": ["fetch"], "others": ["main"]},
    ]


def test_each_wait_stands_in_its_box_and_says_what_will_end_it(show):
    events = SAMPLES["waits"]()
    window = show(events, number(events, {"event": "asleep"}))
    boxes = tasks(window)
    assert boxes["os"] == ["a_socket", "a_child", "a_signal"]
    limit = window.text(".box-timers")
    assert boxes["timers"] == [] and "a_limit" in limit and "time limit" in limit
    others = "main a_thread a_lock a_semaphore an_event a_future a_limit lost"
    assert window.text(".box-others .total") == str(len(others.split()))
    said = window.text(".box-os") + window.text(".box-others")
    for words in ("[2001:db8::17]:443", "4711", "getaddrinfo", "held by a_socket", "<Semaphore 0/4>", "nobody"):
        assert words in said
    assert "raised ValueError" in window.text(".finished")


def test_sleep_0_stands_in_the_queue(show):
    events = SAMPLES["waits"]()
    window = show(events, number(events, {"event": "pause", "name": "a_turn"}))
    assert "a_turn" in tasks(window)["ready"]


def test_a_socket_with_a_time_limit_is_seen_with_its_peer(show):
    events = SAMPLES["echo"]()
    last = [event["n"] for event in events if event["event"] == "asleep"][-1]
    window = show(events, last)
    assert tasks(window)["os"] == ["main", "serve"]
    assert "127.0.0.1:40123" in window.text(".box-os") and "5.0 s left" in window.text(".box-timers")


def test_the_code_shows_the_line_and_where_each_task_stands(show):
    events = tutorial()
    window = show(events, number(events, {"event": "resume", "name": "task_b"}))
    assert window.text(".line.current code").strip() == "await asyncio.sleep(1)"
    pins = window.run("""return Object.fromEntries([...document.querySelectorAll(".pin")].map((pin) =>
        [pin.textContent, [pin.className, pin.closest(".line").querySelector(".number").textContent]]))""")
    assert pins == {"main": ["pin waiting", "21"], "task_a": ["pin waiting", "6"], "task_b": ["pin running", "13"]}
    seen = window.run("""const row = document.querySelector(".line.current").getBoundingClientRect();
        const pane = document.querySelector("#code").getBoundingClientRect();
        return row.top >= pane.top && row.bottom <= pane.bottom""")
    assert seen


def test_the_code_is_coloured(show):
    text = 'async def f(x):\n    """It\'s\n    two lines."""\n    return rb"a\\"b" + \'c # d\'  # e \'f\n'
    window = show([{"event": "head", "version": 1, "sources": {"f.py": text}}])
    pieces = window.run(
        "return [...document.querySelectorAll('#code code span')].map((e) => [e.className.slice(3), e.textContent])"
    )
    assert pieces == [
        ["await", "async"],
        ["word", "def"],
        ["defined", "f"],
        ["string", '"""It\'s'],
        ["string", '    two lines."""'],
        ["word", "return"],
        ["string", 'rb"a\\"b"'],
        ["string", "'c # d'"],
        ["comment", "# e 'f"],
    ]
    assert window.text("#code").replace("\n", "").count("two lines") == 1


def test_a_run_without_its_files_shows_the_lines_it_names(show):
    events = tutorial()
    events[0]["sources"] = {"tutorial.py": None}
    window = show(events, number(events, {"event": "resume", "name": "task_b"}))
    assert window.text(".line.current code").strip() == "await asyncio.sleep(1)"


def test_what_the_program_printed_grows_with_the_run(show):
    events = tutorial()
    window = show(events)
    assert window.text("#output") == "Nothing yet."
    window = show(events, number(events, {"output": "B: answered\n"}))
    assert window.text("#output").split("\n")[:4] == [
        "main: start",
        "A: asking the slow API",
        "B: asking the quick API",
        "B: answered",
    ]
    assert window.text("#output .now").strip() == "B: answered"


def test_space_plays_and_pauses(show):
    def button():
        return window.run("return document.querySelector('.play').getAttribute('aria-label')")

    window = show(tutorial())  # a minute long, at the speed that it begins with
    window.press(" ")
    assert button() == "Pause"
    window.press(" ")
    assert button() == "Play" and at(window) < 31
    window.press(*">>>>>", " ")
    wait_until(lambda: at(window) == 31 and button() == "Play")
    window.press(*"<<<<<", " ", " ")
    assert at(window) < 31, "at the end, it plays from the beginning"


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


def test_j_and_k_go_from_step_to_step_of_the_chosen_task(show):
    events = tutorial()
    window = show(events)
    steps = [event["n"] for event in events if event["event"] in ("start", "resume")]
    for n in steps[:3]:
        window.press("j")
        assert at(window) == n
    window.press("k")
    assert at(window) == steps[1]
    window.press("ArrowDown", "ArrowDown")
    assert "task_a" in window.run(
        "return [...document.querySelectorAll('.chip.chosen')].map((chip) => chip.textContent)"
    )
    window.press("Home", "j", "j")
    assert at(window) == number(events, {"event": "resume", "name": "task_a"})
    window.press("j")
    assert at(window) == number(events, {"event": "resume", "name": "task_a"}), "it has no further step"


def test_w_goes_back_to_what_caused_it(show):
    events = tutorial()
    window = show(events, number(events, {"event": "resume", "name": "main"}))
    assert "task_a" in window.text("#because") and "timer 1" in window.text("#because")
    window.press("w")
    assert at(window) == number(events, {"event": "ready", "name": "main"})
    window.press("w")
    assert at(window) == number(events, {"event": "resume", "name": "task_a"})
    window.press("w", "w")
    assert at(window) == number(events, {"event": "pause", "name": "task_a"}), "where it set the timer that rang"


def test_findings_are_listed_marked_and_reached_by_key(show):
    events = SAMPLES["blocking"]()
    window = show(events)
    assert window.text("#found").split() == ["2", "findings"]
    listed = window.text("#findings")
    assert "The loop was blocked" in listed and "2.00 s" in listed and "had to wait: heartbeat" in listed
    assert "never awaited" in listed and "report.py:24" in listed
    window.press("n")
    assert at(window) == number(events, {"kind": "never-awaited"})
    window.press("n", "n")
    assert at(window) == number(events, {"kind": "blocked"})
    assert window.text(".line.current code").strip().startswith("time.sleep(2)")
    window.press("p")
    assert at(window) == number(events, {"kind": "never-awaited"})
    window.run("document.querySelectorAll('#findings button')[1].click()")
    assert at(window) == number(events, {"kind": "blocked"})
    assert painted(window, "#overview", "--alarm") and painted(window, "#lanes canvas", "--alarm")


def painted(window, canvas, colour):
    """How many pixels of the canvas have this colour of the palette."""
    window.settle()
    return window.run(
        """
        const canvas = document.querySelector(arguments[0]);
        const hex = getComputedStyle(document.documentElement).getPropertyValue(arguments[1]).trim();
        const [r, g, b] = [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let k = 0; k < data.length; k += 4) count += data[k] === r && data[k + 1] === g && data[k + 2] === b;
        return count
        """,
        canvas,
        colour,
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_timeline_is_drawn_in_the_readers_colours(show, dark):
    events = tutorial()
    window = show(events, dark=dark)
    background = window.run("return getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, background[4:-1].split(","))) < 60) is dark
    assert painted(window, "#lanes canvas", "--run") > 1000 and painted(window, "#lanes canvas", "--ready") > 300
    assert painted(window, "#overview", "--run") > 1000
    window.press("t")
    assert window.run("return getComputedStyle(document.body).backgroundColor") != background
    assert painted(window, "#lanes canvas", "--run") > 1000
    window.run("localStorage.clear()")


def test_real_time_leaves_no_room_for_the_work_and_folded_time_does(show):
    window = show(tutorial())
    folded = painted(window, "#lanes canvas", "--run")
    window.press("s")
    assert painted(window, "#lanes canvas", "--run") < folded / 20
    window.press("s")
    assert painted(window, "#lanes canvas", "--run") == folded


def test_a_click_on_the_timeline_goes_there(show):
    window = show(tutorial())
    click = """
        const canvas = document.querySelector("#lanes canvas");
        const box = canvas.getBoundingClientRect();
        const at = { clientX: box.left + box.width * arguments[0], clientY: box.top + arguments[1], pointerId: 1,
                     bubbles: true, pointerType: "touch" };
        canvas.dispatchEvent(new PointerEvent("pointerdown", at));
        canvas.dispatchEvent(new PointerEvent("pointermove", at));
        canvas.dispatchEvent(new PointerEvent("pointerup", at));
    """
    window.run(click, 0.5, 70)
    assert 12 < at(window) < 20
    assert "main waited 2.0" in window.text("#tip"), "and says what is under the pointer"
    window.run(click, 0.01, 100)
    assert window.run("return document.querySelector('.chip.chosen').textContent") == "task_a"


def test_the_narration_is_spoken_and_the_scrubber_says_where_it_is(show):
    events = tutorial()
    window = show(events, number(events, {"event": "asleep"}))
    live = window.run("const e = document.querySelector('#moment'); return [e.ariaLive, e.ariaAtomic, e.textContent]")
    assert live[:2] == ["polite", "true"] and "nobody ready" in live[2]
    value = window.run("return document.querySelector('#scrubber').getAttribute('aria-valuetext')")
    assert value == f"event {at(window)} of 31, 0.137 ms"
    nameless = window.run(
        """return [...document.querySelectorAll("button, a, input, select")].filter((e) =>
            e.getClientRects().length && !e.textContent.trim() && !e.ariaLabel).map((e) => e.outerHTML)"""
    )
    assert nameless == []


def test_the_scrubber_scrubs(show):
    window = show(tutorial())
    window.run(
        "const s = document.querySelector('#scrubber'); s.value = s.max / 2; s.dispatchEvent(new Event('input'))"
    )
    assert 12 < at(window) < 20


def test_the_address_names_the_moment(show):
    window = show(tutorial(), 9)
    assert at(window) == 9
    window.press("ArrowRight")
    wait_until(lambda: window.run("return location.hash") == "#n=10")


def test_help_opens_and_closes(show):
    window = show(tutorial())
    window.press("?")
    assert window.run("return document.querySelector('#help').open") and "next finding" in window.text("#help")
    window.press("ArrowRight")
    assert at(window) == 1, "the keys belong to the help while it is open"
    window.press("Escape")
    assert not window.run("return document.querySelector('#help').open")


def test_the_bill_adds_up(show):
    window = show(tutorial())
    bill = window.text("#bill")
    for words in ("150 µs", "3.000 s", "timer 2→task_b", "timer 1→task_a→main"):
        assert words in bill.replace("\n", "")


def test_many_tasks_are_grouped_and_only_those_of_the_moment_have_lanes(show):
    events = SAMPLES["crowd"]()
    window = show(events, number(events, {"event": "asleep"}))
    assert window.text(".box-timers .total") == "300"
    assert window.text(".box-timers .chip") == "nap ×300"
    assert window.run("return document.querySelectorAll('.box li').length") < 20
    window.press("End", "ArrowLeft")
    rows = window.run("return document.querySelector('#lanes .tall').clientHeight")
    assert rows < 60 * 26


def test_twenty_thousand_events_can_be_walked_and_zoomed(show):
    events = workers(20_000, consumers=12)
    window = show(events, 10_000)
    assert at(window) == 10_000
    assert painted(window, "#lanes canvas", "--run") > 1000
    window.press("End", "ArrowLeft", "Home", "ArrowRight", *"jjk", *"------------")
    assert at(window) > 1
    assert painted(window, "#lanes canvas", "--run") > 1000
    assert window.run("return document.querySelectorAll('*').length") < 3000


def test_the_texts_of_a_run_are_only_texts(show):
    evil = "<img src=x onerror=alert(1)></script><b>"
    run = Recorder(evil, f"async def main():\n    print({evil!r})\n")
    run.queued(1, evil)
    run.start(1, "print")
    run.prints(1, evil)
    run.pause(1, "print", {"kind": "future", "on": evil}, evil)
    run.finish(1, evil)
    window = show(run.events, 3)
    assert evil in window.text("#output") and evil in window.text("#program")
    for n in (1, 2, 4, 5):
        window = show(run.events, n)
        assert window.run("return document.querySelectorAll('img, main b b').length") == 0


def test_a_page_of_nearly_nothing_opens(show):
    window = show([{"event": "head", "version": 1}])
    assert at(window) == 1
    bare = [{"event": "head", "version": 1}, {"event": "news", "t": 0.5}, {"event": "ready", "task": 9, "t": 0.4}]
    window = show([*bare, {"event": "pause", "task": 9, "t": 1}])
    window.press("End")
    assert at(window) == 3 and tasks(window)["others"] == ["task 9"]
