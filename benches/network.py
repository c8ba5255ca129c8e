"""Rows with a server process, which is measured, and a client process, which is not: server CPU per request."""

from benches import processes

KIB = 1024

# name: the server's kind (benches/servers.py) and what ferrio-load does with it.
ROWS = {
    "TCP protocol, 1 KiB x 1": ("tcp_protocol", "echo", {"size": KIB, "connections": 1}),
    "TCP protocol, 1 KiB x 10": ("tcp_protocol", "echo", {"size": KIB, "connections": 10}),
    "TCP protocol, 1 KiB x 100": ("tcp_protocol", "echo", {"size": KIB, "connections": 100}),
    "TCP protocol, 100 KiB x 10": ("tcp_protocol", "echo", {"size": 100 * KIB, "connections": 10}),
    "TCP streams, 1 KiB x 10": ("tcp_streams", "echo", {"size": KIB, "connections": 10}),
    "TCP streams, 1 KiB x 100": ("tcp_streams", "echo", {"size": KIB, "connections": 100}),
    "Unix protocol, 1 KiB x 10": ("unix_protocol", "echo", {"size": KIB, "connections": 10}),
    "UDP protocol, 1 KiB x 10": ("udp_protocol", "echo", {"size": KIB, "connections": 10}),
    "TLS protocol, 1 KiB x 10": ("tls_protocol", "tls-echo", {"size": KIB, "connections": 10}),
    "uvicorn, hello x 64": ("uvicorn", "http", {"connections": 64}),
}


def start(name, factory):
    """What is to be measured, as a context manager: a running server."""
    kind, _, _ = ROWS[name]
    return processes.serve(["-m", "benches.servers", kind, factory])


def measure(name, server, effort):
    """One round: the client's report, whose cost is the server's CPU time for a request."""
    _, kind, options = ROWS[name]
    report = processes.load(kind, server["address"], server["pid"], seconds=effort["seconds"], **options)
    return report | {"cost": report["server_cpu_us_per_request"]}


def unit(name):
    return "us server CPU"
