"""What a loop writes down of itself: what is in it, what must not be, and that taking it changes nothing."""

import asyncio
import collections
import json
import os
import sys
import threading
import weakref

import ferrio
import pytest
from ferrio import _ferrio
from ferrio.live import snapshot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="snapshots are taken on Linux alone")


def look(program):
    """Runs the coroutine function `program(take)`; `take()` takes a snapshot."""

    async def main():
        loop, memory = asyncio.get_running_loop(), snapshot.Memory()
        return await program(lambda: json.loads(json.dumps(snapshot.take(loop, memory))))

    return asyncio.Runner(loop_factory=ferrio.new_event_loop).run(main())


def states(taken):
    return {task["coro"].rpartition(".")[2]: task["state"] for task in taken["tasks"]["described"]}


async def cancel(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("module", [asyncio, ferrio], ids=["asyncio", "ferrio"])
def test_the_word_for_what_a_task_does(module):
    async def program(take):
        loop = asyncio.get_running_loop()
        event, lock, queue, full = module.Event(), module.Lock(), module.Queue(), module.Queue(1)
        full.put_nowait(1)
        promise = loop.create_future()
        reads, writes = os.pipe()
        blocked = []

        def block():
            blocked.append(threading.current_thread())
            os.read(reads, 1)

        async def sleeps():
            await module.sleep(100)

        async def limited():
            async with module.timeout(50):
                await event.wait()

        async def inside():
            async with lock:
                await module.sleep(100)

        async def locked():
            async with lock:
                pass

        async def waits():
            await event.wait()

        async def gets():
            await queue.get()

        async def puts():
            await full.put(2)

        async def trusts():
            await promise

        async def lost():
            await loop.create_future()

        async def forgets():
            await module.Event().wait()

        async def gathers():
            await module.gather(module.sleep(100), module.sleep(100))

        async def joins():
            await others[0]

        async def threads():
            await module.to_thread(block)

        async def executes():
            await loop.run_in_executor(None, block)

        async def yields():
            while True:
                await module.sleep(0)

        async def spawns():
            await (await module.create_subprocess_exec("sleep", "100")).wait()

        others = [asyncio.create_task(sleeps())]
        functions = [
            limited,
            inside,
            locked,
            waits,
            gets,
            puts,
            trusts,
            lost,
            forgets,
            gathers,
            joins,
            threads,
            executes,
            yields,
        ]
        begun = loop.time()
        others += [asyncio.create_task(function()) for function in functions]
        await asyncio.sleep(0.1)
        while len(blocked) < 2:
            await asyncio.sleep(0.01)
        taken = take()
        taken["took"] = loop.time() - begun
        os.write(writes, b"12")
        await cancel(others)
        for fd in (reads, writes):
            os.close(fd)
        return taken

    taken = look(program)
    expected = {
        "program": "running", "sleeps": "timer", "limited": "event", "inside": "timer", "locked": "lock", "waits": "event",
        "gets": "queue-get", "puts": "queue-put", "trusts": "future", "lost": "nobody", "forgets": "nobody",
        "gathers": "gather", "joins": "task", "threads": "executor", "executes": "executor", "yields": "ready",
    }  # fmt: skip
    known = states(taken)
    known.pop("sleep")  # those of gather()
    known["program"] = known.pop("main")
    assert known == expected
    (locked,) = [task for task in taken["tasks"]["described"] if task["state"] == "lock"]
    (inside,) = [task for task in taken["tasks"]["described"] if task["coro"].endswith("inside")]
    assert locked["wait"]["holder"] == inside["name"]
    assert [executor["busy"] for executor in taken["executors"]] == [2]
    if module is asyncio:
        return  # asyncio's own timeouts are callbacks like any other
    (limited,) = [task for task in taken["tasks"]["described"] if task["coro"].endswith("limited")]
    assert [leaf["kind"] for leaf in limited["wait"]["of"]] == ["event", "timer"]
    # (It says milliseconds.)
    assert 50 - taken["took"] - 0.001 <= limited["wait"]["of"][1]["in"] <= 50


def test_nothing_of_the_programs_data_is_in_it():
    async def program(take):
        queue = asyncio.Queue()

        async def keeps(secret):
            local = [secret]
            await queue.get()
            return local

        async def threads(secret):
            await asyncio.to_thread(len, secret)

        tasks = [asyncio.create_task(keeps("secret-1")), asyncio.create_task(threads("secret-2"))]
        asyncio.get_running_loop().call_later(100, print, "secret-3")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queue.put_nowait(("secret-4",))
        queue.put_nowait("secret-5")
        taken = take()
        await cancel(tasks)
        return taken

    assert "secret" not in json.dumps(look(program)).replace("test_nothing", "")


def test_taking_it_calls_nothing_of_the_program():
    class Proxy:
        """As the proxies of web frameworks are outside of a request."""

        def __getattribute__(self, name):
            raise AssertionError(f"asked for {name}")

    async def program(take):
        async def keeps(proxy):
            await asyncio.Event().wait()
            return proxy

        task = asyncio.create_task(keeps(Proxy()))
        await asyncio.sleep(0)
        taken = take()
        await cancel([task])
        return taken

    assert states(look(program))["keeps"] == "nobody"


def test_taking_it_keeps_nothing_open():
    async def program(take):
        reads, writes = os.pipe()
        loop = asyncio.get_running_loop()
        loop.add_reader(reads, print)
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        before = set(os.listdir("/proc/self/fd"))
        taken = [take() for _ in range(10)][-1]
        after = set(os.listdir("/proc/self/fd"))
        loop.remove_reader(reads)
        server.close()
        os.close(reads)
        os.close(writes)
        # (What an earlier test has left may go away meanwhile.)
        assert after <= before
        return taken

    about = look(program)["descriptors"]["described"]
    assert {one["owner"] for one in about} >= {"print", "Listener"}


def test_it_is_taken_in_slices_and_holds_on_to_nothing_between_them():
    async def program(take):
        loop = asyncio.get_running_loop()

        async def sleeps():
            await asyncio.sleep(100)

        async def moves():
            while True:
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(sleeps()) for _ in range(150)] + [asyncio.create_task(moves()) for _ in range(3)]
        await asyncio.sleep(0)
        taking = snapshot.taking(weakref.ref(loop), snapshot.Memory(), True)
        pieces, gone = 0, []
        while True:
            try:
                next(taking)
            except StopIteration as stop:
                taken = stop.value
                break
            pieces += 1
            # Between two slices tasks go on, end, and are freed.
            if len(tasks) > 100:
                gone.append(weakref.ref(tasks[0]))
                tasks.pop(0).cancel()
            for _ in range(3):
                await asyncio.sleep(0)
            assert [task() for task in gone if task() is not None] == []
        await cancel(tasks)
        return pieces, taken

    pieces, taken = look(program)
    assert pieces > 20
    described = taken["tasks"]["described"]
    counts = collections.Counter(one["coro"].rpartition(".")[2] for one in described)
    assert counts["moves"] == 3 and 90 < counts["sleeps"] <= 150
    assert {one["state"] for one in described if one["coro"].endswith("sleeps")} == {"timer"}
    assert {one["state"] for one in described if one["coro"].endswith("moves")} == {"ready"}
    assert taken["began"] < taken["at"]


def test_what_is_ready_is_told_apart():
    async def child():
        pass

    def callback():
        pass

    async def program(take):
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(3)]
        together = ferrio.gather(*futures)
        waits = [loop.create_task(asyncio.wait_for(future, 10)) for future in [loop.create_future() for _ in range(2)]]
        loop.call_soon(callback)
        for future in futures:
            future.set_result(None)
        taken = take()
        await cancel(waits)
        await together
        return taken

    kinds = look(program)["ready"]["kinds"]
    counts = {one["calls"][0].rpartition(".")[2]: one["count"] for one in kinds}
    assert counts["_done_callback"] == 3 and counts["callback"] == 1 and counts["steps of tasks"] >= 2


def test_its_text_has_as_much_as_there_is_room_for(monkeypatch):
    written = []

    class Loop(ferrio.EventLoop):
        def _write_snapshot(self, text, answers):
            written.append(text)

    async def main():
        async def with_a_very_long_name():
            await asyncio.sleep(100)

        tasks = [asyncio.create_task(with_a_very_long_name()) for _ in range(300)]
        await asyncio.sleep(0)
        monkeypatch.setattr(snapshot, "ROOM", 20_000)
        _ferrio.PageView(_ferrio.page_path()).request()
        while snapshot.write(asyncio.get_running_loop()):
            pass
        await cancel(tasks)

    asyncio.Runner(loop_factory=Loop).run(main())
    text = max(written, key=len)
    assert 10_000 < len(text) <= 20_000
    state = json.loads(text)
    assert state["tasks"]["count"] == 301
    assert 10 < len(state["tasks"]["described"]) < 300


def test_queues_in_the_hands_of_tasks_are_measured():
    class Worker:
        def __init__(self):
            self.queue = asyncio.Queue()

        async def work(self):
            await asyncio.sleep(100)

    async def program(take):
        worker = Worker()
        for number in range(7):
            worker.queue.put_nowait(number)
        task = asyncio.create_task(worker.work())
        await asyncio.sleep(0)
        taken = take()
        await cancel([task])
        return taken

    (queue,) = look(program)["queues"]
    assert queue["size"] == 7
    assert queue["where"][2].endswith("work")
