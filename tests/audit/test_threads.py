"""Loops in several threads at once, and threads that call into a loop that runs: without the interpreter lock they do so at
the same time."""

from .programs import run_program

PRELUDE = """
import asyncio, sys, threading
import ferrio

sys.setswitchinterval(1e-5)
failures = []

def in_threads(*calls):
    def guarded(call, *arguments):
        try:
            call(*arguments)
        except BaseException as error:
            failures.append(error)
            raise
    threads = [threading.Thread(target=guarded, args=call) for call in calls]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures
"""


def test_loops_in_several_threads_do_not_meet():
    source = """
    ferrio.install()

    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    async def ask(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(20):
            writer.write(b"%d\\n" % number)
            assert await reader.readline() == b"%d\\n" % number
        writer.close()
        await writer.wait_closed()

    async def main(rounds):
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        queue, lock = asyncio.Queue(3), asyncio.Lock()

        async def produce():
            for number in range(50):
                await queue.put(number)

        async def consume():
            for number in range(50):
                async with lock:
                    assert await queue.get() == number

        for _ in range(rounds):
            await asyncio.gather(produce(), consume(), ask(port), ask(port))
            try:
                async with asyncio.timeout(0.0005):
                    await asyncio.sleep(60)
            except TimeoutError:
                pass
            assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(10)]
            assert [task.result() for task in tasks] == list(range(10))
        server.close()
        return rounds

    ran = []
    in_threads(*[(lambda: ran.append(asyncio.run(main(20))),)] * 4)
    print(ran)
    """
    assert run_program(source, prelude=PRELUDE).strip() == "[20, 20, 20, 20]"


def test_nothing_of_what_several_threads_leave_is_lost():
    source = """
    loop, left, ready, done = None, [0] * 4, threading.Event(), threading.Event()
    seen = [[] for _ in left]

    def hub():
        async def main():
            global loop
            loop = asyncio.get_running_loop()
            ready.set()
            while not done.is_set():
                loop.call_soon(int)
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
            # What was left last.
            await asyncio.sleep(0.05)
        ferrio.run(main())

    async def answer(number):
        await asyncio.sleep(0)
        return number

    def leave(index):
        ready.wait()
        for number in range(300):
            for _ in range(10):
                loop.call_soon_threadsafe(seen[index].append, left[index])
                left[index] += 1
            assert asyncio.run_coroutine_threadsafe(answer(number), loop).result(30) == number
            asyncio.run_coroutine_threadsafe(asyncio.sleep(60), loop).cancel()
            loop.call_soon_threadsafe(int).cancel()
            assert loop.is_running() and not loop.is_closed() and repr(loop)

    def leave_all():
        in_threads(*[(leave, index) for index in range(len(left))])
        done.set()

    in_threads((hub,), (leave_all,))
    # Everything, in the order in which each thread left it.
    assert seen == [list(range(3000))] * 4
    """
    run_program(source, prelude=PRELUDE)


def test_a_thread_that_leaves_something_in_a_loop_that_does_not_run_does_not_own_it():
    source = """
    loop, order = ferrio.new_event_loop(), []
    loop.run_until_complete(asyncio.sleep(0))
    task = loop.create_task(asyncio.sleep(60))
    loop.run_until_complete(asyncio.sleep(0))
    in_threads((loop.call_soon_threadsafe, order.append, 1))
    task.cancel()
    loop.call_later(0, order.append, 3)
    loop.call_soon(order.append, 2)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert task.cancelled() and order == [1, 2, 3]
    loop.close()
    """
    run_program(source, prelude=PRELUDE)
