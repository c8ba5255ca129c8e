"""Forks of a process that has a loop."""

import pytest

from .support import run_python


def test_a_forked_child_can_run_a_loop_of_its_own_and_the_parent_goes_on(loop_under_test):
    done = run_python(
        """
        import asyncio, os, socket, warnings
        warnings.simplefilter("ignore")

        async def child():
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            peer.send(b"x")
            await asyncio.sleep(0.01)
            return 40 + len(await asyncio.get_running_loop().sock_recv(ours, 10))

        async def main():
            loop = asyncio.get_running_loop()
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            got = []
            loop.add_reader(ours, lambda: got.append(ours.recv(10)))
            timer = loop.create_future()
            loop.call_later(0.05, timer.set_result, "the parent's timer")
            for _ in range(3):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        with asyncio.Runner(loop_factory=new_event_loop) as runner:
                            status = runner.run(child())
                    finally:
                        os._exit(status)
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                peer.send(b"event")
                await asyncio.sleep(0.01)
            print(got, await timer)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """,
        loop_under_test,
    )
    assert done.stdout.splitlines() == ["41", "41", "41", "[b'event', b'event', b'event'] the parent's timer"]


@pytest.mark.stock_differs("it shares the parent's epoll set, and takes the parent's registrations out of it")
def test_a_forked_child_that_touches_the_inherited_loop_does_not_disturb_the_parent(loop_under_test):
    done = run_python(
        """
        import asyncio, os, socket, warnings
        warnings.simplefilter("ignore")

        async def main():
            loop = asyncio.get_running_loop()
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            got = []
            loop.add_reader(ours, lambda: got.append(ours.recv(10)))
            await asyncio.sleep(0)
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    try:
                        loop.remove_reader(ours)
                        loop.add_reader(peer, print)
                        loop.call_soon(print, "in the child")
                        loop.call_soon_threadsafe(print, "in the child")
                    except RuntimeError as error:
                        assert str(error)
                    status = 0
                finally:
                    os._exit(status)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            peer.send(b"event")
            await asyncio.sleep(0.05)
            print(got)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """,
        loop_under_test,
    )
    assert done.stdout.splitlines() == ["0", "[b'event']"]


def test_a_pool_of_forked_processes_works_from_a_running_loop(loop_under_test):
    done = run_python(
        """
        import asyncio, concurrent.futures, multiprocessing, warnings
        warnings.simplefilter("ignore")

        async def main():
            with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
                loop = asyncio.get_running_loop()
                print(await asyncio.gather(*(loop.run_in_executor(pool, abs, -n) for n in range(10))))

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """,
        loop_under_test,
    )
    assert done.stdout.strip() == str(list(range(10)))
