"""aiofiles: files in the loop's threads."""

import asyncio
import os

import aiofiles
import aiofiles.os
import aiofiles.tempfile
import pytest


def test_write_read_seek(run, tmp_path, check_loop):
    body = os.urandom(3_000_000)

    async def main():
        path = tmp_path / "file"
        async with aiofiles.open(path, "wb") as file:
            assert await file.write(body) == len(body)
            check_loop()
        async with aiofiles.open(path, "rb") as file:
            assert await file.read() == body
            await file.seek(1000)
            assert await file.read(1000) == body[1000:2000]
        assert (await aiofiles.os.stat(path)).st_size == len(body)
        await aiofiles.os.remove(path)
        assert not path.exists()

    run(main())


def test_lines(run, tmp_path):
    async def main():
        async with aiofiles.open(tmp_path / "lines", "w+") as file:
            await file.writelines(f"line {number}\n" for number in range(1000))
            await file.seek(0)
            assert [line async for line in file] == [f"line {number}\n" for number in range(1000)]

    run(main())


def test_many_files_at_once(run):
    async def main():
        async def one(number):
            async with aiofiles.tempfile.TemporaryFile("w+") as file:
                await file.write(str(number))
                await file.seek(0)
                return int(await file.read())

        assert await asyncio.gather(*map(one, range(200))) == list(range(200))

    run(main())


def test_errors_arrive(run, tmp_path):
    async def main():
        with pytest.raises(FileNotFoundError):
            async with aiofiles.open(tmp_path / "nothing"):
                pass

    run(main())
