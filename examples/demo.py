"""`make demo`: ferrio at work, in four parts.

1. An unmodified asyncio script run by ferrio.
2. What the loop does in such a script, told by `ferrio explain`.
3. An HTTP service on ferrio, answering a client over a socket.
4. The same service on asyncio and uvloop beside it: requests per second, and server CPU per request.
"""

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benches import loops, network, paired  # noqa: E402  (the project's folder had to come first)

ROUNDS = 5


def heading(text):
    print(f"\n{text}\n{'=' * len(text)}", flush=True)


def python(*words):
    """A Python command, shown as one would type it."""
    print("$ python", *words, flush=True)
    return [sys.executable, *words]


def script():
    heading("1. An asyncio script, unmodified")
    script = subprocess.Popen(
        python("-m", "ferrio", "examples/tutorial.py"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    output = []
    for line in script.stdout:
        print(line, end="", flush=True)
        output.append(line)
    elapsed = [float(line.split()[1]) for line in output if "elapsed:" in line]
    if (
        script.wait() != 0
        or not output[0].startswith("running on ferrio")
        or [round(seconds) for seconds in elapsed] != [3, 2, 2, 2]
    ):
        sys.exit("demo: expected ferrio's loop and elapsed times of 3, 2, 2 and 2 s")


def explanation():
    heading("2. What happens at an await")
    command = python("-m", "ferrio", "explain", "--fast", "tests/explain/programs/kettles.py")
    story = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(story.stdout, end="")
    if story.returncode != 0 or "side by side it took 2 s" not in story.stdout:
        sys.exit("demo: expected the story of a script that takes 2 s")


def service():
    heading("3. An HTTP service (uvicorn, httptools) and a client")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = python(
        "-m", "uvicorn", "--app-dir", "examples", "hello:app", "--loop", "ferrio:new_event_loop", "--http", "httptools",
        "--lifespan", "off", "--port", str(port),
    )  # fmt: skip
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        answer = get(port)
    finally:
        server.terminate()
        server.wait(timeout=10)
    print(f"the client received: {answer}")
    if not answer.startswith("200 OK: Hello from ferrio"):
        sys.exit("demo: the answer does not come from ferrio")


def get(port):
    """The answer to `GET /`, from a server that may still be starting."""
    deadline = time.monotonic() + 15
    while True:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
            try:
                client.request("GET", "/")
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            response = client.getresponse()
            return f"{response.status} {response.reason}: {response.read().decode().strip()}"


def comparison():
    heading("4. The same service on three loops")
    present, absent = loops.split(["asyncio", "uvloop", "ferrio"])

    row = "uvicorn, hello x 64"
    print(f"64 keep-alive connections, {ROUNDS} interleaved rounds of 1 s, medians\n", flush=True)
    reports, failures = paired.interleave(
        ROUNDS,
        present,
        lambda factory: network.start(row, factory),
        lambda server: network.measure(row, server, {"seconds": 1}),
    )
    costs = {name: [report["cost"] for report in rounds] for name, rounds in reports.items()}
    rates = {name: [report["requests_per_second"] for report in rounds] for name, rounds in reports.items()}
    rows = [
        [name, f"{median(rates[name]):,.0f}", f"{median(costs[name]):.1f} us"]
        + [paired.ratio(costs, name, base) for base in ("asyncio", "uvloop")]
        for name in reports
    ]
    print("\n".join(paired.table(["loop", "requests/s", "server CPU/request", "/ asyncio's", "/ uvloop's"], rows)))
    for name, reason in absent.items():
        print(f"{name} is absent: {reason}")
    for name, reason in failures.items():
        print(f"{name} failed: {reason}")
    if "ferrio" not in reports:
        sys.exit("demo: no figures for ferrio")


if __name__ == "__main__":
    script()
    explanation()
    service()
    comparison()
