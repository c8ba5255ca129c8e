"""System calls that the kernel refuses, as it does in containers."""

import pytest

from .support import run_python


@pytest.mark.parametrize("errno", [1, 38], ids=["EPERM", "ENOSYS"])
def test_system_calls_a_container_refuses_are_done_without_and_without_a_word(loop_under_test, errno):
    """io_uring, pidfd_open and epoll_pwait2, refused as container runtimes and old kernels refuse them."""
    done = run_python(
        """
        import asyncio, ctypes, socket, struct, sys

        def refuse(calls, errno):
            instructions = [(0x20, 0, 0, 0)]                                  # load the number of the call
            for n, call in enumerate(calls):
                instructions.append((0x15, len(calls) - n, 0, call))          # is it this one? then to the last instruction
            instructions += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno)]
            code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
            buffer = ctypes.create_string_buffer(code)
            program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
            libc = ctypes.CDLL(None, use_errno=True)
            for arguments in ((38, 1, 0, 0, 0), (22, 2, program, 0, 0)):
                assert libc.prctl(*arguments) == 0, ctypes.get_errno()

        refuse([425, 426, 427, 434, 441], int(sys.argv[1]))

        async def main():
            loop = asyncio.get_running_loop()
            before = loop.time()
            await asyncio.sleep(0.0123)
            assert loop.time() - before >= 0.0123
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            loop.call_later(0.005, peer.send, b"x")
            assert await loop.sock_recv(ours, 10) == b"x"
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('child'); raise SystemExit(3)", stdout=-1)
            out, _ = await process.communicate()
            print(out, process.returncode)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """,
        loop_under_test,
        arguments=[str(errno)],
    )
    assert done.stdout.strip() == r"b'child\n' 3"
    assert done.stderr == ""
