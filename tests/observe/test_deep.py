"""The level deep, wished for while the loop runs: events with lines, in a bounded file beside the page."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import ferrio
import pytest
from ferrio import _ferrio, observe, page
from ferrio.flight import deep, log

pytestmark = pytest.mark.skipif(not _ferrio.page_folder(), reason="there is no tmpfs for a page here")


async def worker(event):
    await asyncio.sleep(0.001)
    await event.wait()


async def observed():
    event = asyncio.Event()
    await asyncio.sleep(0.01)  # the loop looks at the page
    task = asyncio.create_task(worker(event), name="the worker")
    await asyncio.sleep(0.01)
    event.set()
    await task


@pytest.fixture
def level():
    yield observe.level
    observe.level("pulse")


def test_lines_and_waits_are_written(level, tmp_path):
    async def main():
        level("deep")
        await observed()
        level("pulse")
        await asyncio.sleep(0.01)
        await observed()
        # What happens after the level has ended is not in it.
        return observe.dump(tmp_path / "it.xlog")

    ferrio.run(main())
    events = log.load(tmp_path / "it.xlog").deep
    assert events[0]["event"] == "head" and events[0]["version"] == 1
    mine = [event for event in events if event.get("name") == "the worker"]
    kinds = [event["event"] for event in mine]
    assert kinds == ["queued", "start", "pause", "ready", "resume", "pause", "ready", "resume", "finish"]
    first, second = [event for event in mine if event["event"] == "pause"]
    assert first["code"] == "await asyncio.sleep(0.001)" and second["code"] == "await event.wait()"
    assert first["file"] == "test_deep.py" and second["line"] == first["line"] + 1
    because = [event["because"]["kind"] for event in mine if event["event"] == "ready"]
    assert because == ["timer", "task"]
    assert mine[-1]["outcome"] == "returned" and all(event["text"] for event in events[1:])
    assert {"asleep", "awake"} <= {event["event"] for event in events}
    assert not any(event.get("name") == "the worker#2" for event in events)
    assert "the worker" in page.render(events)


def test_an_observer_of_ones_own_goes_first(level):
    class Heard(list):
        def __getattr__(self, name):
            return lambda *arguments: self.append(name)

    heard = Heard()

    async def main():
        loop = asyncio.get_running_loop()
        loop._observe(heard)
        level("deep")
        await asyncio.sleep(0.01)
        level("pulse")
        await asyncio.sleep(0.01)
        before = len(heard)
        await asyncio.sleep(0.01)
        assert loop._level == "deep" and len(heard) > before
        loop._observe(None)
        return loop._level

    assert ferrio.run(main()) == "pulse"


def test_an_observer_that_leaves_does_not_take_the_flight_record_with_it(level):
    async def main():
        loop = asyncio.get_running_loop()
        level("flight")
        await asyncio.sleep(0.01)
        loop._observe(object())
        observing = loop._level
        loop._observe(None)
        return observing, loop._level

    assert ferrio.run(main()) == ("deep", "flight")


def test_the_file_is_bounded(level, monkeypatch):
    monkeypatch.setattr(deep, "HALF", 10_000)
    monkeypatch.setattr(deep, "_writers", {})

    async def main():
        level("deep")
        for _ in range(300):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        level("pulse")
        await asyncio.sleep(0.01)

    ferrio.run(main())
    path = _ferrio.page_path()
    files = [Path(deep._beside(path, ending)) for ending in deep.ENDINGS]
    assert all(0 < file.stat().st_size < 11_000 and stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    numbers = [event["n"] for event in deep.read(path)[1:]]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)) and numbers[0] > 1


SERVICE = """
import asyncio

async def beat():
    while True:
        await asyncio.sleep(0.01)  # the beat

async def main():
    print("up", flush=True)
    await asyncio.create_task(beat(), name="the beat")

asyncio.run(main())
"""


def test_a_running_process_goes_deep_from_outside_and_is_read_when_it_is_dead(tmp_path):
    (tmp_path / "service.py").write_text(SERVICE)
    command = [sys.executable, "-m", "ferrio", "service.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout.readline() == "up\n"
            path = Path(_ferrio.page_folder()) / f"{service.pid}.loop"
            _ferrio.PageView(path).set_level("deep")
            while len(deep.read(path)) < 20:
                assert service.poll() is None
        finally:
            service.send_signal(signal.SIGKILL)
            service.wait()
    dump = [sys.executable, "-m", "ferrio", "dump", "-o", tmp_path / "it.xlog", str(service.pid)]
    subprocess.run(dump, check=True, capture_output=True, timeout=60)
    for beside in path.parent.glob(f"{service.pid}.*"):
        beside.unlink()
    beats = [
        event
        for event in log.load(tmp_path / "it.xlog").deep
        if event.get("code") == "await asyncio.sleep(0.01)  # the beat"
    ]
    assert len(beats) > 5 and {event["name"] for event in beats} == {"the beat"}


def test_nothing_is_left_by_a_process_that_ends(tmp_path):
    program = "import asyncio, ferrio, os; ferrio.run(asyncio.sleep(0.01)); print(os.getpid())"
    environment = os.environ | {"FERRIO_LEVEL": "deep"}
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", program]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and ran.stderr == ""
    assert not list(Path(_ferrio.page_folder()).glob(f"{ran.stdout.strip()}.*"))


def test_events_are_json_that_other_programs_read(level):
    async def main():
        level("deep")
        await observed()

    ferrio.run(main())
    for event in deep.read(_ferrio.page_path()):
        assert json.loads(json.dumps(event, allow_nan=False)) == event
