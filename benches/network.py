"""Rows with a server process, which is measured, and a client process, which is not: server CPU per request."""

import contextlib
import time
from dataclasses import dataclass, field

from benches import processes

KIB = 1024
MIB = 1024 * KIB

#: How `bare` is written where a loop's factory is: the server without a loop, and the limit of what a loop can reach.
BARE = "bare"


@dataclass
class Row:
    """A kind of server (benches/servers.py) and what ferrio-load does with it."""

    server: str
    client: str
    options: dict = field(default_factory=dict)
    #: Connections that say nothing, beside those that do.
    idle: int = 0
    #: The address of the bare server that does the same, where there is one.
    bare: str = ""
    #: Whether `make bench-quick` has it.
    quick: bool = False
    #: What is measured: the server's CPU per request, or its memory per idle connection.
    unit: str = "us server CPU"
    #: No more than these.
    rounds: int | None = None


def echo(server, size, connections, idle=0, quick=False):
    bare = {"tcp": "tcp:127.0.0.1:0", "unix": "unix:bare.sock", "udp": "udp:127.0.0.1:0"}
    options = {"size": size, "connections": connections}
    return Row(server, "echo", options, idle, bare.get(server.partition("_")[0], ""), quick)


def bulk(server, client, quick=False):
    return Row(server, client, {"size": MIB, "connections": 4}, bare="tcp:127.0.0.1:0", quick=quick)


def accept(server, quick=False):
    return Row(server, "connect", {"size": 1, "connections": 32}, bare="tcp:127.0.0.1:0", quick=quick)


def http(server, path="/", quick=False):
    return Row(server, "http", {"connections": 64, "path": path}, quick=quick)


def memory(server):
    return Row(server, "hold", idle=5_000, unit="bytes of memory", rounds=1)


ROWS = {
    "TCP protocol, 64 B x 10": echo("tcp_protocol", 64, 10),
    "TCP protocol, 1 KiB x 1": echo("tcp_protocol", KIB, 1),
    "TCP protocol, 1 KiB x 10": echo("tcp_protocol", KIB, 10, quick=True),
    "TCP protocol, 1 KiB x 100": echo("tcp_protocol", KIB, 100),
    "TCP protocol, 1 KiB x 1,000": echo("tcp_protocol", KIB, 1000),
    "TCP protocol, 1 KiB x 100 among 10,000 idle": echo("tcp_protocol", KIB, 100, idle=10_000),
    "TCP protocol, 10 KiB x 100": echo("tcp_protocol", 10 * KIB, 100),
    "TCP protocol, 100 KiB x 10": echo("tcp_protocol", 100 * KIB, 10, quick=True),
    "TCP protocol, 100 KiB x 100": echo("tcp_protocol", 100 * KIB, 100),
    "TCP BufferedProtocol, 1 KiB x 10": echo("tcp_buffered", KIB, 10),
    "TCP BufferedProtocol, 1 KiB x 100": echo("tcp_buffered", KIB, 100),
    "TCP BufferedProtocol, 100 KiB x 10": echo("tcp_buffered", 100 * KIB, 10),
    "TCP streams, 1 KiB x 1": echo("tcp_streams", KIB, 1),
    "TCP streams, 1 KiB x 10": echo("tcp_streams", KIB, 10, quick=True),
    "TCP streams, 1 KiB x 100": echo("tcp_streams", KIB, 100),
    "TCP streams, 1 KiB x 1,000": echo("tcp_streams", KIB, 1000),
    "TCP streams, 10 KiB x 100": echo("tcp_streams", 10 * KIB, 100),
    "TCP streams, 100 KiB x 10": echo("tcp_streams", 100 * KIB, 10, quick=True),
    "TCP sock_*, 1 KiB x 10": echo("tcp_sock", KIB, 10, quick=True),
    "TCP sock_*, 1 KiB x 100": echo("tcp_sock", KIB, 100),
    "TCP sock_*, 100 KiB x 10": echo("tcp_sock", 100 * KIB, 10),
    "Unix protocol, 1 KiB x 1": echo("unix_protocol", KIB, 1),
    "Unix protocol, 1 KiB x 100": echo("unix_protocol", KIB, 100),
    "Unix protocol, 100 KiB x 10": echo("unix_protocol", 100 * KIB, 10),
    "Unix streams, 1 KiB x 100": echo("unix_streams", KIB, 100),
    "UDP protocol, 1 KiB x 1": echo("udp_protocol", KIB, 1),
    "UDP protocol, 1 KiB x 10": echo("udp_protocol", KIB, 10, quick=True),
    "UDP protocol, 1 KiB x 100": echo("udp_protocol", KIB, 100),
    "TLS protocol, 1 KiB x 1": echo("tls_protocol", KIB, 1),
    "TLS protocol, 1 KiB x 10": echo("tls_protocol", KIB, 10, quick=True),
    "TLS protocol, 1 KiB x 100": echo("tls_protocol", KIB, 100),
    "TLS protocol, 10 KiB x 10": echo("tls_protocol", 10 * KIB, 10),
    "TLS protocol, 100 KiB x 10": echo("tls_protocol", 100 * KIB, 10),
    "TLS streams, 1 KiB x 10": echo("tls_streams", KIB, 10),
    "TLS streams, 100 KiB x 10": echo("tls_streams", 100 * KIB, 10),
    "bulk to a protocol, 1 MiB x 4": bulk("tcp_sink", "upload"),
    "bulk to streams, 1 MiB x 4": bulk("tcp_sink_streams", "upload", quick=True),
    "bulk from a protocol, 1 MiB x 4": bulk("tcp_source", "download"),
    "bulk from streams, 1 MiB x 4": bulk("tcp_source_streams", "download"),
    "accept, protocol x 32": accept("tcp_protocol"),
    "accept, streams x 32": accept("tcp_streams"),
    "idle connection, protocol": memory("tcp_protocol"),
    "idle connection, streams": memory("tcp_streams"),
    "uvicorn, hello x 64": http("uvicorn", quick=True),
    "uvicorn, 10 KiB x 64": http("uvicorn", "/10k"),
    "uvicorn, TLS, hello x 64": http("uvicorn_tls"),
    "aiohttp server, hello x 64": http("aiohttp", quick=True),
}


def server(row, factory):
    """The server that a row measures, as a context manager."""
    if factory != BARE:
        return processes.serve(["-m", "benches.servers", row.server, factory])
    kind = "echo" if row.client == "connect" else row.client
    return processes.bare(kind, row.bare, size=row.options["size"])


@contextlib.contextmanager
def start(name, factory):
    """What is to be measured: a running server with its idle connections, or how to start one if that is measured."""
    row = ROWS[name]
    if row.client == "hold":
        yield factory
        return
    with server(row, factory) as running, contextlib.ExitStack() as stack:
        if row.idle:
            stack.enter_context(processes.hold(running["address"], row.idle))
        # The first round does not start from nothing either.
        processes.load(row.client, running, seconds=0.1, **row.options)
        yield running


def measure(name, subject, effort):
    """One round: the client's report, whose cost is the server's CPU time for a request."""
    row = ROWS[name]
    if row.client == "hold":
        return {"cost": idle_bytes(row, subject)}
    report = processes.load(row.client, subject, seconds=effort["seconds"], warmup=0.05, **row.options)
    return report | {"cost": report["server_cpu_us_per_request"]}


def idle_bytes(row, factory):
    """How much memory a server takes for each connection that says nothing."""
    with server(row, factory) as running:
        # What is allocated with the first connection is not counted.
        processes.load("echo", running, requests=100, warmup=0, connections=10)
        before = processes.resident(running["pid"])
        with processes.hold(running["address"], row.idle):
            time.sleep(0.2)
            return (processes.resident(running["pid"]) - before) / row.idle


def is_quick(name):
    return ROWS[name].quick


def most_rounds(name):
    return ROWS[name].rounds


def unit(name):
    return ROWS[name].unit
