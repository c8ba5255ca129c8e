"""Benchmarks of event loops against each other: `python -m benches` from the project's folder (`make bench`).

How to read the figures is in docs/benchmarks.md. The files:
    loops.py        the loops that are compared
    paired.py       interleaved rounds, medians and ratios
    report.py       the tables; plot.py: the picture; publish.py: both into the documentation
    one_process.py  rows inside one process:
    micro.py        what a loop does by itself
    primitives.py   asyncio's other half: queues, locks, gather
    streams.py      its streams
    clients.py      what a client costs
    row.py          what makes a function a row
    network.py      rows with a server process and a client process
    servers.py      the servers
    processes.py    server and client, each on its CPU
    load/           the client, and the server without a loop, in Rust
"""
