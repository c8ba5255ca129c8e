"""sock_sendfile: what arrives, what is returned, and where the file stands afterwards."""

import asyncio
import errno
import io
import os
import socket
from asyncio import constants

import pytest

from .conftest import turns

SIZE = 3_000_000


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        yield file


@pytest.fixture
def content(file):
    return os.pread(file.fileno(), SIZE, 0)


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture(params=["kernel", "reading"])
def way(request, monkeypatch):
    """How the file is sent: sendfile(2), or its replacement where the kernel refuses."""
    if request.param == "reading":
        refuse(monkeypatch)
    return request.param


def refuse(monkeypatch):
    def sendfile(*arguments):
        raise OSError(errno.EINVAL, "refused")

    monkeypatch.setattr(os, "sendfile", sendfile)


async def all_of(loop, sock):
    data = bytearray()
    while chunk := await loop.sock_recv(sock, 1 << 20):
        data += chunk
    return data


@pytest.mark.parametrize(
    ("arguments", "start", "end"),
    [
        ((), 0, SIZE),
        ((1000,), 1000, SIZE),
        ((1000, 2000), 1000, 3000),
        ((0, 10 * SIZE), 0, SIZE),
        ((SIZE - 5, 100), SIZE - 5, SIZE),
    ],
    ids=["all", "from offset", "part", "count beyond the end", "the end"],
)
def test_what_is_sent(run, way, pair, file, content, arguments, start, end):
    async def main(loop):
        receiving = asyncio.ensure_future(all_of(loop, pair[1]))
        assert await loop.sock_sendfile(pair[0], file, *arguments) == end - start
        pair[0].close()
        assert await receiving == content[start:end]
        assert file.tell() == end

    run(main)


def test_an_offset_beyond_the_end_sends_nothing(run, way, pair, file):
    async def main(loop):
        assert await loop.sock_sendfile(pair[0], file, SIZE + 5, 10) == 0
        with pytest.raises(BlockingIOError):
            pair[1].recv(1)

    run(main)


def test_an_empty_file_sends_nothing(run, pair, tmp_path):
    async def main(loop):
        path = tmp_path / "empty"
        path.touch()
        with path.open("rb") as empty:
            assert await loop.sock_sendfile(pair[0], empty) == 0
            assert empty.tell() == 0

    run(main)


def test_between_other_sends(run, pair, file, content):
    async def main(loop):
        receiving = asyncio.ensure_future(all_of(loop, pair[1]))
        await loop.sock_sendall(pair[0], b"before")
        await loop.sock_sendfile(pair[0], file)
        await loop.sock_sendall(pair[0], b"after")
        pair[0].close()
        assert await receiving == b"before" + content + b"after"

    run(main)


def test_a_file_that_is_none_of_the_systems_is_read(run, pair):
    async def main(loop):
        data = os.urandom(700_000)
        receiving = asyncio.ensure_future(all_of(loop, pair[1]))
        file = io.BytesIO(data)
        assert await loop.sock_sendfile(pair[0], file, 5) == len(data) - 5
        assert file.tell() == len(data)
        pair[0].close()
        assert await receiving == data[5:]

    run(main)


@pytest.mark.parametrize("file", [io.BytesIO(b"x"), object()], ids=lambda file: type(file).__name__)
def test_without_fallback_such_a_file_is_refused(run, pair, file):
    async def main(loop):
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
            await loop.sock_sendfile(pair[0], file, fallback=False)

    run(main)


@pytest.mark.parametrize("fallback", [None, 0, ""], ids=repr)
def test_what_is_false_means_no_fallback(run, pair, fallback):
    async def main(loop):
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
            await loop.sock_sendfile(pair[0], io.BytesIO(b"x"), fallback=fallback)

    run(main)


def test_without_fallback_a_refusal_of_the_kernel_is_told(run, pair, file, monkeypatch):
    async def main(loop):
        refuse(monkeypatch)
        with pytest.raises(asyncio.SendfileNotAvailableError, match="os.sendfile call failed"):
            await loop.sock_sendfile(pair[0], file, fallback=False)
        monkeypatch.delattr(os, "sendfile")
        with pytest.raises(asyncio.SendfileNotAvailableError, match=r"os.sendfile\(\) is not available"):
            await loop.sock_sendfile(pair[0], file, fallback=False)

    run(main)


def test_a_peer_that_goes_away_is_a_connection_error_and_the_position_tells_how_far_it_came(run, way, pair, file):
    async def main(loop):
        sending = asyncio.ensure_future(loop.sock_sendfile(pair[0], file))
        received = await loop.sock_recv(pair[1], 1000)
        await turns()
        pair[1].close()
        with pytest.raises(ConnectionError):
            await sending
        assert len(received) <= file.tell() < SIZE

    run(main)


def test_cancelling_leaves_the_position_behind_what_was_sent(pair, file, run_on_ferrio):
    # asyncio leaves it where it was: no oracle here.
    async def main(loop):
        sending = asyncio.ensure_future(loop.sock_sendfile(pair[0], file))
        await turns()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        pair[0].close()
        assert 0 < os.lseek(file.fileno(), 0, os.SEEK_CUR) == len(await all_of(loop, pair[1]))

    run_on_ferrio(main)


def test_reading_goes_by_the_buffer_size_of_asyncio(run, pair, monkeypatch):
    sizes = []

    class File(io.BytesIO):
        def readinto(self, buffer):
            sizes.append(len(buffer))
            return super().readinto(buffer)

    async def main(loop):
        monkeypatch.setattr(constants, "SENDFILE_FALLBACK_READBUFFER_SIZE", 1000)
        assert await loop.sock_sendfile(pair[0], File(bytes(5000)), 0, 2500) == 2500
        assert sizes == [1000, 1000, 500]

    run(main)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, "1"), TypeError, r"count must be a positive integer \(got '1'\)"),
        ((0, 0), ValueError, r"count must be a positive integer \(got 0\)"),
        ((0, -1), ValueError, r"count must be a positive integer \(got -1\)"),
        ((-1,), ValueError, r"offset must be a non-negative integer \(got -1\)"),
        ((None,), TypeError, r"offset must be a non-negative integer \(got None\)"),
        ((1.5,), TypeError, r"offset must be a non-negative integer \(got 1.5\)"),
    ],
)
def test_wrong_numbers(run, pair, file, arguments, error, message):
    async def main(loop):
        with pytest.raises(error, match=message):
            await loop.sock_sendfile(pair[0], file, *arguments)

    run(main)


def test_text_files_and_datagram_sockets_are_refused(run, pair, file, tmp_path):
    async def main(loop):
        with open(file.name, encoding="latin-1") as text:
            with pytest.raises(ValueError, match="file should be opened in binary mode"):
                await loop.sock_sendfile(pair[0], text)
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            datagrams.setblocking(False)
            with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
                await loop.sock_sendfile(datagrams, file)

    run(main)


def test_a_blocking_socket_is_refused_in_debug_mode(run, pair, file):
    async def main(loop):
        pair[0].setblocking(True)
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await loop.sock_sendfile(pair[0], file)

    run(main, debug=True)
