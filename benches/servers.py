"""The servers of the network rows, one kind per process: `python -m benches.servers KIND FACTORY`.

When it listens, the server prints a line of JSON with its address and the class of its loop. It runs until it is killed.
"""

import json
import socket
import sys

from benches.loops import class_name, factory


def announce(loop_class, address):
    print(json.dumps({"loop": loop_class, "address": address}), flush=True)


def listening_tcp():
    # asyncio sets TCP_NODELAY only where the socket says that it is TCP, which one from socket.create_server does not.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    return sock


def tcp_address(sock):
    host, port = sock.getsockname()
    return f"tcp:{host}:{port}"


def uvicorn(spec):
    import uvicorn

    config = uvicorn.Config(
        "examples.hello:app", loop=spec, http="httptools", lifespan="off", log_level="warning", access_log=False
    )
    sock = listening_tcp()
    loop = factory(spec)()
    announce(class_name(loop), tcp_address(sock))
    loop.close()
    uvicorn.Server(config).run(sockets=[sock])


KINDS = {"uvicorn": uvicorn}

if __name__ == "__main__":
    kind, spec = sys.argv[1:]
    KINDS[kind](spec)
