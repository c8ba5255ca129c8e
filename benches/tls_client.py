"""The client of the TLS row, with ferrio-load's options and report: `python -m benches.tls_client tcp:HOST:PORT ...`.

Plain blocking sockets: a message goes out on every connection, then every echo is read. It costs about as much per
message as the server does, so requests per second say little here; the server's CPU per request stays right.
"""

import argparse
import json
import socket
import ssl
import time


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--warmup", type=float, default=0.2)
    parser.add_argument("--server-pid", type=int, required=True)
    return parser.parse_args()


def connect(address):
    # Who the server is does not matter to a benchmark; the cipher does, and it is the default one.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, host, port = address.split(":")
    sock = context.wrap_socket(socket.create_connection((host, int(port)), timeout=10))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def exchange(connections, message, seconds):
    """Echoes on all connections until the time is over: how many answers came."""
    answers = 0
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        for connection in connections:
            connection.sendall(message)
        for connection in connections:
            received = b""
            while len(received) < len(message):
                data = connection.recv(len(message))
                if not data:
                    raise SystemExit("the server closed the connection")
                received += data
            if received != message:
                raise SystemExit("the echo differs from what was sent")
        answers += len(connections)
    return answers


def cpu_time_of(pid):
    # What clock_getcpuclockid(3) computes; Python does not have it.
    return time.clock_gettime(~pid << 3 | 2)


def main():
    options = parse()
    message = bytes(i % 251 for i in range(options.size))
    connections = [connect(options.address) for _ in range(options.connections)]
    exchange(connections, message, options.warmup)
    cpu, started = cpu_time_of(options.server_pid), time.perf_counter()
    requests = exchange(connections, message, options.seconds)
    cpu, seconds = cpu_time_of(options.server_pid) - cpu, time.perf_counter() - started
    report = {
        "connections": options.connections,
        "requests": requests,
        "seconds": seconds,
        "requests_per_second": requests / seconds,
        "server_cpu_us_per_request": cpu * 1e6 / requests,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
