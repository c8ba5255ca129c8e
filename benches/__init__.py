"""Benchmarks of event loops against each other: `python -m benches` from the project's folder (`make bench`).

The files:
    loops.py      the loops that are compared
    paired.py     interleaved rounds, medians and ratios, the table
    processes.py  server and client, each on its CPU
    network.py    rows with a server process and a client process
    one_process.py  rows inside one process:
    micro.py      what a loop does by itself
    primitives.py asyncio's other half: queues, locks, gather
    streams.py    its streams
    row.py        what makes a function a row
    load/         the client process, in Rust
"""
