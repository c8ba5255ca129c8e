"""`ferrio record`, `dump` and `export`: what is saved is what ran, and other tools read it."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from ferrio import _ferrio
from ferrio.flight import chrome, events, lines, log, perfetto
from ferrio.flight.steps import understand

pytestmark = pytest.mark.skipif(not _ferrio.page_folder(), reason="there is no tmpfs for a page here")

PROGRAM = """
import asyncio, sys

async def worker(name, event):
    await asyncio.sleep(0.01)
    event.set()
    return name

async def main():
    event = asyncio.Event()
    tasks = [asyncio.create_task(worker("a", event)), asyncio.create_task(worker("b", event), name="the second")]
    await event.wait()
    reader, writer = await asyncio.open_connection(*(await serve()))
    writer.write(b"hello")
    print(await reader.read(10))
    writer.close()
    await asyncio.gather(*tasks)

async def serve():
    async def echo(reader, writer):
        writer.write(await reader.read(10))
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return server.sockets[0].getsockname()

asyncio.run(main())
sys.exit(3)
"""


def ferrio(*words, status=0, **options):
    done = subprocess.run(
        [sys.executable, "-m", "ferrio", *map(str, words)], capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The file of a recorded run."""
    folder = tmp_path_factory.mktemp("flight")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    # The program's own exit status and output are passed on.
    done = ferrio("record", "-o", folder / "run.xlog", program, status=3)
    assert done.stdout == "b'hello'\n" and "run.xlog" in done.stderr
    return folder / "run.xlog"


@pytest.fixture(scope="module")
def flight(recorded):
    return log.load(recorded)


def named(steps, name):
    return [step for step in steps if step.subject.name == name]


def test_a_record_has_every_task_by_its_name(flight):
    subjects = {subject.title for subject in understand(flight).subjects if subject.is_task}
    assert {"the second (worker)"} <= subjects
    assert {title.partition(" (Task-")[0] for title in subjects} >= {"main", "worker", "serve.<locals>.echo"}


NAMES = """
import asyncio, collections.abc

class Foreign(collections.abc.Coroutine):
    def send(self, value):
        raise StopIteration

    def throw(self, *error):
        raise error[0]

    def __await__(self):
        return self

async def fetch():
    await asyncio.sleep(0)

class Fetcher:
    async def fetch(self):
        await asyncio.sleep(0)

async def main():
    names = [None, None, "fetch", "early", "asked", "Task-x"]
    tasks = [asyncio.create_task(fetch(), name=name) for name in names]
    tasks += [asyncio.create_task(Fetcher().fetch()), asyncio.create_task(Foreign(), name="foreign")]
    tasks[3].set_name("late")
    tasks[1].get_name()
    await asyncio.gather(*tasks)
    print(*(task.get_name() for task in tasks))

asyncio.run(main())
"""


def test_tasks_have_the_names_that_they_had_when_they_began(tmp_path):
    (tmp_path / "names.py").write_text(NAMES)
    said = ferrio("record", "-o", tmp_path / "names.xlog", tmp_path / "names.py").stdout.split()
    subjects = understand(log.load(tmp_path / "names.xlog")).subjects
    titles = [subject.title for subject in subjects if subject.is_task][1 : len(said) + 1]
    first, second, *_, sixth, _ = said
    assert titles == [
        f"fetch ({first})", f"fetch ({second})", "fetch (fetch)", "late (fetch)", "asked (fetch)", "Task-x (fetch)",
        f"Fetcher.fetch ({sixth})", "foreign (Foreign)",
    ]  # fmt: skip


FORKED = """
import os, ferrio
from ferrio import _ferrio

loop = ferrio.new_event_loop()

def hello():
    loop.stop()

loop.call_soon(hello)
child = os.fork()
loop.run_forever()
records = _ferrio.PageView(_ferrio.page_path()).records()
names = {subject: name for kind, _, _, subject, *_, name in records if kind == "name"}
told = [names.get(subject) for kind, _, _, subject, *_ in records if kind == "step"]
print("parent" if child else "child", *told, flush=True)
if child:
    os.waitpid(child, 0)
loop.close()
"""


def test_a_child_tells_the_names_of_what_it_has_inherited(tmp_path):
    (tmp_path / "forked.py").write_text(FORKED)
    done = subprocess.run(
        [sys.executable, tmp_path / "forked.py"],
        env={**os.environ, "FERRIO_LEVEL": "flight"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (sorted(done.stdout.splitlines()), done.stderr) == (["child hello", "parent hello"], "")


MANY = """
import asyncio

async def fetch():
    await asyncio.sleep(0)

async def main():
    for number in range(6_000):
        await asyncio.create_task(fetch(), name=f"{number:100}")
    await asyncio.create_task(fetch())

asyncio.run(main())
"""


def test_of_more_names_than_there_is_room_for_the_first_are_kept(tmp_path):
    (tmp_path / "many.py").write_text(MANY)
    ferrio("record", "-o", tmp_path / "many.xlog", tmp_path / "many.py")
    known = understand(log.load(tmp_path / "many.xlog"))
    names = {subject.name for subject in known.subjects}
    assert f"{1_000:100} (fetch)" in names and f"{5_999:100} (fetch)" not in names
    # All of them are there.
    assert len(known.subjects) > 6_000 and len(known.steps) > 12_000


def test_each_step_was_ready_before_it_ran_and_knows_who_woke_it(flight):
    known = understand(flight)
    assert all(step.ready is not None and step.ready <= step.begins <= step.ends for step in known.steps)
    (first, *rest) = named(known.steps, "main")
    assert first.cause == "outside"
    assert [step.waker for step in named(known.steps, "worker")[:1]] == [first]
    # `event.set()` in a worker's step is what wakes main.
    assert rest[0].waker.subject.name in ("worker", "the second (worker)")


def test_a_wake_up_within_a_step_has_the_time_of_its_beginning(flight):
    known = understand(flight)
    woken = [step for step in known.steps if step.waker is not None]
    assert woken and all(step.ready == step.waker.begins < step.begins for step in woken)
    # One step's end is the beginning of the next, unless the operating system is asked in between.
    ends = {(step.slot, step.number): step.ends for step in known.steps}
    assert all(ends.get((step.slot, step.number - 1), 0) <= step.begins + 1e-9 for step in known.steps)


def test_a_step_is_not_taken_for_woken_by_itself():
    def record(kind, at, number=0, payload=0, cause="step"):
        return log.Record(kind, 0, at, 7, number, 0.5, 0.0, cause, payload, "")

    # A task that yields; the record begins after its first wake-up. Wake-ups come before the record of their step.
    records = [record("wake", 1.0, payload=4), record("step", 1.0, 4, 3), record("wake", 2.0, payload=5)]
    records += [record("step", 2.0, 5, 4), record("step", 3.0, 6, 5)]
    known = understand(log.Log({}, [], {}, records))
    assert [step.ready for step in known.steps] == [None, 1.0, 2.0]
    assert [step.waker for step in known.steps] == [None, *known.steps[:2]]
    assert [count for *_, count in known.ready] == [1, 2, 1, 0]


def test_steps_of_a_loop_do_not_overlap_however_their_times_are_rounded():
    # 0.1 + 0.2 is more than 0.3.
    times = [(0.1, 0.2), (0.3, 0.0), (0.3, 0.4)]
    records = [
        log.Record("step", 0, at, 7, number, length, 0.0, "outside", 0, "") for number, (at, length) in enumerate(times)
    ]
    known = understand(log.Log({}, [], {}, records))
    assert [(step.begins, step.ends) for step in known.steps] == [(0.1, 0.3), (0.3, 0.3), (0.3, 0.7)]


def test_a_sleep_is_woken_by_its_timer_and_a_read_by_its_descriptor(flight):
    known = understand(flight)
    causes = {step.cause for step in known.steps}
    assert {"timer", "descriptor", "step"} <= causes
    fired = {step.payload for step in known.steps if step.cause == "timer"}
    assert fired <= {timer.number for timer in known.timers}
    assert sum(sleep.ends - sleep.begins for sleep in known.sleeps) > 0.005


def test_a_file_is_read_as_it_was_written(flight, tmp_path):
    log.save(flight, tmp_path / "again.xlog")
    assert log.load(tmp_path / "again.xlog") == flight
    assert [path.name for path in tmp_path.iterdir()] == ["again.xlog"]


def test_a_pipe_is_written_to_and_a_link_goes_on_to_be_one(tmp_path):
    # Replaced by a file, /dev/null would be gone for all.
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    link.symlink_to(file)
    flight = log.Log({"pid": 1}, [], {}, [])
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    log.save(flight, pipe)
    reader.join(30)
    log.save(flight, str(link))
    assert pipe.is_fifo() and link.is_symlink() and log.load(file) == flight
    file.write_bytes(read[0])
    assert log.load(file) == flight


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"something else", "not a flight record"),
        (gzip.compress(b"{}\n"), "not a flight record"),
        (gzip.compress(b'{"xlog": 99}\n'), "version 99"),
        (gzip.compress(b'{"xlog": 1}\n'), "cut off or damaged"),
        (b"", "not a flight record"),
    ],
)
def test_a_file_that_is_no_record_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "bad.xlog"
    path.write_bytes(content)
    done = ferrio("export", "--jsonl", path, status=2)
    assert reason in done.stderr and done.stderr.count("\n") == 1


def test_a_record_that_is_cut_off_is_refused(recorded, tmp_path):
    path = tmp_path / "cut.xlog"
    path.write_bytes(recorded.read_bytes()[:-200])
    assert "cut off" in ferrio("export", "--jsonl", path, status=2).stderr


def test_the_perfetto_trace_follows_the_published_schema(flight):
    reason = "the published schema comes with the package perfetto (tests/ecosystem/requirements.txt)"
    schema = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason=reason)
    file = io.BytesIO()
    perfetto.write(flight, file)
    trace = schema.Trace.FromString(file.getvalue())
    assert not _unknown(trace)
    tracks = {packet.track_descriptor.uuid: packet.track_descriptor for packet in trace.packet if _is_track(packet)}
    names = {track.name for track in tracks.values()}
    assert {"loop 0", "ready, loop 0", "the second (worker)", "timers, loop 0", "descriptors, loop 0"} <= names
    # Moments are of the monotonic clock; a reader converts them to the trace's own by this.
    (clocks,) = [packet.clock_snapshot.clocks for packet in trace.packet if packet.HasField("clock_snapshot")]
    assert {1, 3, 6} == {clock.clock_id for clock in clocks}
    assert all(track.parent_uuid in tracks for track in tracks.values() if track.parent_uuid)
    packets = [packet for packet in trace.packet if packet.HasField("track_event")]
    assert [packet.timestamp for packet in packets] == sorted(packet.timestamp for packet in packets)
    assert all(packet.track_event.track_uuid in tracks for packet in packets)
    # Slices nest, and each flow goes from who woke (a step, a timer, a descriptor, …) to the step that was woken.
    open_slices, begun, ended, origins = {}, set(), set(), {}
    kinds = schema.TrackEvent
    for packet in packets:
        event = packet.track_event
        if event.type == kinds.TYPE_SLICE_BEGIN:
            assert open_slices.setdefault(event.track_uuid, 0) == 0
            open_slices[event.track_uuid] += 1
            assert set(event.terminating_flow_ids) <= begun
            begun |= set(event.flow_ids)
            origins |= dict.fromkeys(event.flow_ids, tracks[event.track_uuid].name)
            ended |= set(event.terminating_flow_ids)
        elif event.type == kinds.TYPE_SLICE_END:
            open_slices[event.track_uuid] -= 1
        elif event.type == kinds.TYPE_INSTANT:
            begun |= set(event.flow_ids)
            origins |= dict.fromkeys(event.flow_ids, tracks[event.track_uuid].name)
    assert set(open_slices.values()) == {0}
    assert begun == ended and len(begun) == len(understand(flight).steps)
    assert {"timers, loop 0", "descriptors, loop 0"} <= set(origins.values())
    assert any("(Task-" in origin for origin in origins.values())


def _is_track(packet):
    return packet.HasField("track_descriptor")


def _unknown(message):
    """Whether a part of the message is none of its schema's fields."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    if len(UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            parts = [value] if hasattr(value, "ListFields") else value
            if any(map(_unknown, parts)):
                return True
    return False


def test_chromes_trace_has_slices_and_flows(flight):
    file = io.StringIO()
    chrome.write(flight, file)
    listed = json.loads(file.getvalue())["traceEvents"]
    phases = {event["ph"] for event in listed}
    assert phases == {"M", "X", "s", "f", "C"}
    flows = [[event["id"] for event in listed if event["ph"] == phase] for phase in "sf"]
    assert sorted(flows[0]) == sorted(flows[1]) and len(flows[0]) == len(understand(flight).steps)
    # Each begins and ends within a slice of its row, or a viewer does not draw it.
    slices = [(event["tid"], event["ts"], event["ts"] + event["dur"]) for event in listed if event["ph"] == "X"]
    for event in listed:
        if event["ph"] in "sf":
            row, at = event["tid"], event["ts"]
            assert any(row == of and begins - 0.002 <= at <= ends + 0.002 for of, begins, ends in slices)


def test_the_lines_have_every_record(flight):
    file = io.StringIO()
    lines.write(flight, file)
    head, *records = map(json.loads, file.getvalue().splitlines())
    assert head["event"] == "head" and [log.Record(**record) for record in records] == flight.records


def test_the_page_is_made_of_the_record(flight, recorded):
    listed = list(events.events(flight))
    assert [event["n"] for event in listed[1:]] == list(range(1, len(listed)))
    assert {"queued", "start", "resume", "ready", "asleep", "awake", "bill"} <= {event["event"] for event in listed}
    woken = {event["because"]["kind"] for event in listed if event["event"] == "ready"}
    assert {"task", "socket"} <= woken
    page = recorded.with_suffix(".html")
    assert ferrio("export", "--html", recorded).stdout.strip() == str(page)
    assert "<!doctype html>" in page.read_text().lower()


# --- other processes -------------------------------------------------------------------------------------------------

SERVICE = """
import asyncio
import itertools
from ferrio import _ferrio

async def beat():
    for beats in itertools.count():
        await asyncio.sleep(0.002)
        if beats == 50:
            print("ready", flush=True)

async def main():
    _ferrio.want_level("flight")
    await asyncio.create_task(beat())

asyncio.run(main())
"""


@pytest.fixture
def service():
    """A process at the flight level."""
    command = [sys.executable, "-m", "ferrio", "-c", textwrap.dedent(SERVICE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        page = os.path.join(_ferrio.page_folder(), f"{process.pid}.loop")
        if os.path.exists(page):
            os.unlink(page)


@pytest.mark.parametrize("how", ["running", "stopped", "killed"])
def test_a_process_is_dumped_whatever_has_become_of_it(service, tmp_path, how):
    if how == "stopped":
        os.kill(service.pid, signal.SIGSTOP)
    elif how == "killed":
        service.kill()
        service.wait()
    done = ferrio("dump", "--json", "-o", tmp_path / "it.xlog", service.pid)
    assert json.loads(done.stdout)["records"] > 50
    known = understand(log.load(tmp_path / "it.xlog"))
    assert len(named(known.steps, "beat")) > 10


@pytest.mark.parametrize(
    "words, reason",
    [
        ([], "arguments are required: PID"),
        (["no such program"], "no running process with a loop of ferrio's has 'no such program' in its command line"),
        (["4194305"], "there is no process 4194305"),
        (["--what", "1"], "unrecognized arguments: --what"),
    ],
)
def test_dump_says_what_is_wrong(words, reason):
    assert reason in ferrio("dump", *words, status=2).stderr


def test_dump_takes_its_words_in_any_order_and_says_where_it_cannot_write(service, tmp_path):
    ferrio("dump", service.pid, "-o", tmp_path / "it.xlog")
    assert (tmp_path / "it.xlog").exists()
    missing = tmp_path / "missing" / "it.xlog"
    assert f"{missing}: No such file or directory" in ferrio("dump", service.pid, "-o", missing, status=2).stderr


@pytest.mark.parametrize("wanted", [0, 1])
def test_whoever_reads_an_export_may_have_had_enough(wanted, service, tmp_path):
    ferrio("dump", service.pid, "-o", tmp_path / "it.xlog")
    command = [sys.executable, "-m", "ferrio", "export", "--jsonl", "-o", "-", tmp_path / "it.xlog"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(wanted)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    "words, reason",
    [
        ([], "which format?"),
        (["--chrome"], "which file?"),
        (["--chrome", "no-such.xlog"], "No such file"),
        (["--what"], "unknown option"),
        (["-o"], "argument expected"),
    ],
)
def test_export_says_what_is_wrong(words, reason):
    assert reason in ferrio("export", *words, status=2).stderr
