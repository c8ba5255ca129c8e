"""The README's one line for each tool puts that tool on ferrio's loop: each is run as it stands there."""

import shlex
import sys
from pathlib import Path

import pytest
from programs import Browser, connectable

README = (Path(__file__).parents[2] / "README.md").read_text()
LOOP = "ferrio.event_loop.EventLoop"

NEEDS_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run() has no loop_factory before 3.12")

SAY = """
import asyncio
def say():
    loop = type(asyncio.get_running_loop())
    print(f"{loop.__module__}.{loop.__qualname__}", flush=True)
async def main():
    say()
"""


def documented(line):
    assert f"`{line}`" in README
    return line


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("uvicorn app:app --loop ferrio:new_event_loop", "--port {port}"),
        ("gunicorn app:app -k ferrio.gunicorn.UvicornWorker", "--bind 127.0.0.1:{port}"),
        ("python -m ferrio.granian --interface asgi app:app", "--port {port}"),
    ],
    ids=["uvicorn", "gunicorn", "granian"],
)
def test_a_server_started_from_the_command_line(program, port, tmp_path, line, options):
    words = shlex.split(f"{documented(line)} {options.format(port=port)}")
    words = words[1:] if words[0] == "python" else ["-m", *words]
    (tmp_path / "app.py").write_text("from asgi_app import app\n")
    place = {"uvicorn": "--app-dir", "gunicorn": "--pythonpath", "ferrio.granian": "--working-dir"}[words[1]]
    server = program(*words, place, tmp_path)
    server.until(connectable(port))
    with Browser(port) as browser:
        assert browser.get("/loop").decode() == LOOP


def run(program, tmp_path, code):
    path = tmp_path / "program.py"
    path.write_text(SAY + code)
    ran = program(path)
    assert ran.wait() == 0, ran.output
    return ran.output


@pytest.mark.parametrize(
    "line",
    [
        "ferrio.run(main())",
        pytest.param("asyncio.run(main(), loop_factory=ferrio.new_event_loop)", marks=NEEDS_3_12),
        'anyio.run(main, backend_options={"loop_factory": ferrio.new_event_loop})',
    ],
    ids=["ferrio", "asyncio", "anyio"],
)
def test_a_program_that_starts_a_coroutine(program, tmp_path, line):
    assert run(program, tmp_path, f"import anyio, ferrio\n{documented(line)}") == f"{LOOP}\n"


def test_hypercorn(program, port, tmp_path):
    line = documented("ferrio.run(serve(app, config))")
    code = "import ferrio\nfrom hypercorn.asyncio import serve\nfrom hypercorn.config import Config\n"
    code += f"from asgi_app import app\nconfig = Config()\nconfig.bind = ['127.0.0.1:{port}']\n{line}\n"
    (tmp_path / "program.py").write_text(code)
    server = program(tmp_path / "program.py")
    server.until(connectable(port))
    with Browser(port) as browser:
        assert browser.get("/loop").decode() == LOOP


def test_aiohttp(program, port, tmp_path):
    line = documented("web.run_app(app, loop=ferrio.new_event_loop())")
    code = "import ferrio\nfrom aiohttp import web\n"
    code += "async def answer(request):\n    import asyncio\n    loop = type(asyncio.get_running_loop())\n"
    code += "    return web.Response(text=f'{loop.__module__}.{loop.__qualname__}')\n"
    code += "app = web.Application()\napp.router.add_get('/', answer)\n"
    (tmp_path / "program.py").write_text(code + line.replace("app,", f"app, port={port},"))
    server = program(tmp_path / "program.py")
    server.until(connectable(port))
    with Browser(port) as browser:
        assert browser.get("/").decode() == LOOP


def test_pytest_asyncio(program, tmp_path):
    tool, *words = shlex.split(documented("pytest -p ferrio.pytest_plugin"))
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    (tmp_path / "test_inner.py").write_text(SAY.replace("async def main", "async def test_main"))
    suite = program("-m", tool, *words, "-s", "-W", "error", "-c", tmp_path / "pytest.ini", tmp_path)
    assert suite.wait() == 0, suite.output
    assert LOOP in suite.output


def test_the_plug_in_does_no_harm_without_pytest_asyncio(program, tmp_path):
    (tmp_path / "test_inner.py").write_text("def test_nothing(): pass")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = ("-p", "ferrio.pytest_plugin", "-p", "no:asyncio", "-W", "error", "-c", tmp_path / "pytest.ini", tmp_path)
    suite = program("-m", "pytest", *words)
    assert suite.wait() == 0, suite.output


def test_any_script(program, tmp_path):
    documented("python -m ferrio script.py")
    (tmp_path / "script.py").write_text(SAY + "asyncio.run(main())")
    ran = program("-m", "ferrio", tmp_path / "script.py")
    assert ran.wait() == 0 and ran.output == f"{LOOP}\n"


def test_any_script_explained(program, tmp_path):
    documented("python -m ferrio explain script.py")
    (tmp_path / "script.py").write_text(SAY + "asyncio.run(main())")
    ran = program("-m", "ferrio", "explain", tmp_path / "script.py")
    assert ran.wait() == 0 and f"│ {LOOP}\n" in ran.output and "THE BILL" in ran.output
