"""What ``ferrio explain`` tells of a program: every event's fields, who made which task, and who waits for what."""

import sys
import textwrap

import pytest

from .conftest import PROGRAMS, events_of, explain

#: What every event of a kind has (n, t and text apart).
FIELDS = {
    "loop": {"what"},
    "queued": {"task", "name", "by", "ready"},
    "start": {"task", "name", "waited", "step"},
    "pause": {"task", "name", "ran", "waits"},
    "ready": {"task", "name", "because", "ready", "waits"},
    "resume": {"task", "name", "waited", "step", "because"},
    "finish": {"task", "name", "outcome", "value", "ran", "total", "tells"},
    "cancel": {"task", "name", "by"},
    "asleep": {"until", "watches"},
    "awake": {"slept", "by"},
    "output": {"output", "stream"},
    "mistake": {"kind", "cost", "victims"},
    "callback": {"what", "why", "inner", "because"},
    "bill": {"elapsed", "ran", "python", "asleep", "wakes", "one_by_one", "chains", "more_chains", "error"},
}
WAITS = {
    "timer": {"timer", "in"}, "task": {"tasks"}, "gather": {"tasks", "done", "of"}, "socket": {"fd", "direction", "peer"},
    "thread": {"job"}, "queue-get": {"on"}, "queue-put": {"on"}, "queue-join": {"on"}, "lock": {"on", "holder"},
    "event": {"on"}, "condition": {"on"}, "semaphore": {"on"}, "barrier": {"on"}, "child": {"pid"}, "future": {"on"},
    "turn": set(), "any": {"of"}, "nobody": {"on"},
}  # fmt: skip
CAUSES = {
    "timer": {"timer"}, "socket": {"fd", "direction"}, "task": {"task", "step"}, "thread": set(), "signal": {"number"},
    "child": {"pid"}, "cancel": set(), "outside": set(), "generator": set(), "callback": {"what", "because"}, "turn": set(),
}  # fmt: skip


def check_wait(wait):
    assert WAITS[wait["kind"]] <= wait.keys(), wait
    for each in wait.get("of", ()) if wait["kind"] == "any" else ():
        check_wait(each)


def check_cause(cause):
    assert CAUSES[cause["kind"]] <= cause.keys(), cause


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_event_has_the_fields_of_its_kind(name, real):
    head, *events = real[name]
    assert head["event"] == "head" and head["version"] == 1 and head["clock"] == "real"
    assert head["sources"] == {f"{name}.py": None}
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["event"] == "loop" and events[-1]["event"] == "bill"
    for event in events:
        assert FIELDS[event["event"]] <= event.keys(), event
        assert event["text"] and event["t"] >= 0
        assert ("line" in event) == ("file" in event) == ("code" in event)
        if "waits" in event and event["waits"]:
            check_wait(event["waits"])
        for cause in (
            [event["because"]] if "because" in event else event.get("by", ()) if event["event"] == "awake" else ()
        ):
            check_cause(cause)
    living = set()
    for event in events:
        if event["event"] == "queued":
            living.add(event["task"])
        elif event["event"] == "finish":
            living.remove(event["task"])
    assert not living


def test_a_library_s_tasks_are_the_library_s(program, tmp_path):
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags}"
    packages = tmp_path / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (packages / "heart.py").write_text(
        textwrap.dedent("""
            import asyncio

            class Heart(asyncio.Protocol):
                def start(self):
                    self.task = asyncio.create_task(self.beat())

                def connection_made(self, transport):
                    self.start()
                    transport.write(b"!")

                def data_received(self, data):
                    self.task.cancel()
                    asyncio.create_task(self.bump())

                async def beat(self):
                    await asyncio.sleep(10)

                async def bump(self):
                    self.task = asyncio.create_task(self.end())

                async def end(self):
                    await asyncio.sleep(0)
        """)
    )
    path = program("""
        import asyncio, heart

        async def main():
            heart.Heart().start()
            server = await asyncio.start_server(answer, "127.0.0.1")
            await asyncio.get_running_loop().create_connection(heart.Heart, *server.sockets[0].getsockname())
            await asyncio.sleep(0.2)
            server.close()

        async def answer(reader, writer):
            writer.write(await reader.read(1))
            await asyncio.sleep(0.1)
            writer.close()

        asyncio.run(main())
    """)
    events = events_of(path, PYTHONUSERBASE=str(tmp_path), PYTHONPATH=str(packages))
    names = {event["task"]: event["name"] for event in events if event["event"] == "queued"}
    born = {
        event["name"]: (event.get("file"), event["by"].get("task"), event.get("because", {}).get("kind"))
        for event in events
        if event["event"] == "queued"
    }
    (main,) = (number for number, name in names.items() if name == "main")
    (bump,) = (number for number, name in names.items() if name == "bump")
    assert born["beat"] == ("program.py", main, None)
    heart = born["end"][0]
    assert heart.endswith("heart.py") and born["end"] == (heart, bump, None)
    assert born["answer"] == (None, None, "socket") and born["bump"] == (heart, None, "socket")
    # They are kept, or thrown away, by the library: only what the program itself throws away can it do better.
    unkept = [event for event in events if event["event"] == "mistake" and event["kind"] == "unkept-task"]
    assert [event["name"] for event in unkept] in ([], ["bump"])
    # What has woken the loop is what it has told the operating system to watch.
    asleep = None
    for event in events:
        if event["event"] == "asleep":
            asleep = event
        if event["event"] == "awake":
            watched = {watch["fd"] for watch in asleep["watches"]}
            assert {cause["fd"] for cause in event["by"] if cause["kind"] == "socket"} <= watched


def test_what_other_processes_and_threads_run_is_named(program):
    path = program("""
        import asyncio, concurrent.futures, os

        async def main():
            loop = asyncio.get_running_loop()
            with concurrent.futures.ProcessPoolExecutor(1) as pool:
                await asyncio.gather(loop.run_in_executor(pool, os.getpid))
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                await asyncio.wait([loop.run_in_executor(pool, os.getppid), loop.run_in_executor(pool, os.getppid)])

        if __name__ == "__main__":
            asyncio.run(main())
    """)
    told = explain(path).stdout
    assert "woken by gather, when a future has finished" in told
    assert "woken by asyncio.wait, when all of them have finished" in told and "2 futures have not finished" in told
    assert "nobody have" not in told and "nobody has finished" not in told


def test_several_loops_in_several_threads(program):
    path = program("""
        import asyncio, threading

        async def nap(name):
            await asyncio.sleep(0.01)
            print(name)

        threads = [threading.Thread(target=lambda name=name: asyncio.run(nap(name))) for name in "ab"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """)
    events = events_of(path)
    assert sorted(event["output"] for event in events if event["event"] == "output") == ["a\n", "b\n"]
    assert sum(event["event"] == "finish" for event in events) == 2


def test_bytes_of_a_real_socket_were_known_to_the_kernel(program):
    path = program("""
        import asyncio, socket, threading, time

        def peer(listening):
            connection, _ = listening.accept()
            with connection:
                connection.recv(100)
                time.sleep(0.2)
                connection.send(b"answer\\n")

        async def main():
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"question\\n")
            assert await reader.readline() == b"answer\\n"
            writer.close()

        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=peer, args=[listening]).start()
            asyncio.run(main())
    """)
    events = events_of(path)
    (wait,) = [event for event in events if event["event"] == "pause" and event["line"] == 14]
    assert wait["waits"]["kind"] == "socket" and wait["waits"]["peer"].startswith("127.0.0.1:")
    (news,) = [
        cause for event in events if event["event"] == "awake" for cause in event["by"] if cause.get("bytes") == 7
    ]
    if sys.platform == "linux":
        assert news["arrived"] > wait["t"] + 0.1 and news["age"] >= 0


LOCK = """
    import asyncio

    async def takes(lock, ends):
        await lock.acquire()
        if not ends:
            await asyncio.sleep(1)
            lock.release()

    async def waits(lock):
        async with asyncio.timeout(2):
            async with lock:
                pass

    async def main():
        for ends in (False, True):
            lock = asyncio.Lock()
            taker = asyncio.create_task(takes(lock, ends), name="ending" if ends else None)
            await asyncio.sleep(0)
            if ends:
                await taker
                del taker
            try:
                await waits(lock)
            except TimeoutError:
                pass

    asyncio.run(main())
"""


def test_who_has_taken_a_lock_with_acquire(program):
    told = [event for event in events_of("--fast", program(LOCK)) if "gives the thread back" in event.get("text", "")]
    locks = [(event["text"], event["waits"]["of"][0]) for event in told if event["waits"]["kind"] == "any"]
    (held, first), (left, second) = locks
    assert "takes has the lock, so it gives" in held and "when takes releases it, or by timer" in held
    assert "ending has finished without releasing the lock" in left and "when somebody else releases it" in left
    assert "finished" not in first and second["finished"] is True
