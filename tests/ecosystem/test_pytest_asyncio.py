"""pytest-asyncio, told by its hook which loop to use, in a pytest of its own."""

import textwrap

HOOK = """
    def pytest_asyncio_loop_factories(config, item):
        import importlib
        module, attribute = "{spec}".split(":")
        return {{"under_test": getattr(importlib.import_module(module), attribute)}}
"""

TESTS = """
    import asyncio
    import contextvars
    import pytest
    import pytest_asyncio

    variable = contextvars.ContextVar("variable")

    def check():
        loop = type(asyncio.get_running_loop())
        assert f"{{loop.__module__}}.{{loop.__qualname__}}" == "{loop}"

    @pytest_asyncio.fixture
    async def server():
        check()
        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()
        check()

    @pytest_asyncio.fixture(loop_scope="module", scope="module")
    async def module_loop():
        check()
        yield asyncio.get_running_loop()

    @pytest.mark.asyncio
    async def test_fixture_and_test_share_a_loop(server):
        check()
        reader, writer = await asyncio.open_connection(*server)
        writer.write(b"line\\n")
        assert await reader.read() == b"line\\n"
        writer.close()
        await writer.wait_closed()

    @pytest.mark.asyncio(loop_scope="module")
    @pytest.mark.parametrize("again", [1, 2])
    async def test_a_loop_for_a_module(module_loop, again):
        check()
        assert asyncio.get_running_loop() is module_loop
        await asyncio.sleep(0)

    @pytest.mark.asyncio
    async def test_a_failure_is_seen():
        await asyncio.sleep(0)
        raise ValueError("seen")
"""


def test_tests_and_fixtures_run_on_the_loop(program, tmp_path, factory_spec, loop_name):
    files = {
        "pytest.ini": "[pytest]\nasyncio_default_fixture_loop_scope = function",
        "conftest.py": HOOK.format(spec=factory_spec),
        "test_inner.py": TESTS.format(loop=loop_name),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(textwrap.dedent(content))
    suite = program("-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-c", tmp_path / "pytest.ini", tmp_path)
    assert suite.wait() == 1
    assert "ValueError: seen" in suite.output
    assert "1 failed, 3 passed" in suite.output
