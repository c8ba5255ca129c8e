"""A PostgreSQL and a Redis of the tests' own, in a temporary directory, from the binaries that are installed.

`ci/servers.sh` installs them. A server that is already running can be named instead, by FERRIO_TEST_POSTGRES (a DSN) or
FERRIO_TEST_REDIS (a URL); the tests of its TLS and of its Unix socket are then left out.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import pytest
from programs import Program, connectable, free_port


@dataclass
class Database:
    """How to reach a server: by `url` always, by the others if it is our own."""

    url: str
    port: int | None = None  # for TLS; PostgreSQL negotiates it on its only port
    directory: Path | None = None

    @property
    def socket(self):
        """Redis's socket file."""
        return str(self.own() / "redis.sock")

    def own(self):
        """The directory with the server's sockets; without one the test is left out."""
        if self.directory is None:
            pytest.skip("needs a server of the tests' own, and the environment names another")
        return self.directory


def installed(*names):
    """The paths of server programs, in this order. Debian keeps PostgreSQL's out of PATH."""
    paths = [shutil.which(name) or max(glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None) for name in names]
    if None in paths:
        pytest.skip(f"{' and '.join(names)} not installed: ci/servers.sh does that")
    return paths


@contextlib.contextmanager
def private_directory(certificates):
    """A directory with copies of the certificates, all of `nobody` if we are root, as which PostgreSQL refuses to run.

    Not one of pytest's, which no other user can reach; with a short name, because that of a socket must be short.
    """
    with tempfile.TemporaryDirectory(prefix="ferrio-") as name:
        directory = Path(name)
        for file in certificates.authority, certificates.chain, certificates.key:
            shutil.copy(file, directory)
        (directory / "key.pem").chmod(0o600)
        if os.geteuid() == 0:
            for path in directory, *directory.iterdir():
                shutil.chown(path, "nobody")
        yield directory


@contextlib.contextmanager
def running(*command, **options):
    program = Program(command, **options)
    try:
        yield program
    finally:
        program.end()


@contextlib.contextmanager
def postgres(certificates):
    if url := os.environ.get("FERRIO_TEST_POSTGRES"):
        yield Database(url)
        return
    initdb, server = installed("initdb", "postgres")
    options = {"user": "nobody"} if os.geteuid() == 0 else {}
    with private_directory(certificates) as directory:
        data, port = directory / "data", free_port()
        initialize = [initdb, "-D", data, "-A", "trust", "-U", "ferrio", "--no-sync"]
        subprocess.run(initialize, check=True, stdout=subprocess.DEVNULL, cwd=directory, **options)
        settings = {
            "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": directory, "fsync": "off",
            "ssl": "on", "ssl_cert_file": directory / "chain.pem", "ssl_key_file": directory / "key.pem",
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with running(server, "-D", data, *words, **options) as program:
            program.until_it_says("database system is ready to accept connections")
            yield Database(f"postgresql://ferrio@127.0.0.1:{port}/postgres", port, directory)


@contextlib.contextmanager
def redis(certificates):
    if url := os.environ.get("FERRIO_TEST_REDIS"):
        yield Database(url)
        return
    (server,) = installed("redis-server")
    with private_directory(certificates) as directory:
        port, tls_port = free_port(), free_port()
        settings = {
            "dir": directory, "bind": "127.0.0.1", "port": port, "unixsocket": directory / "redis.sock", "save": "",
            "tls-port": tls_port, "tls-cert-file": directory / "chain.pem", "tls-key-file": directory / "key.pem",
            "tls-ca-cert-file": directory / "ca.pem", "tls-auth-clients": "no",
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with running(server, *words) as program:
            program.until(connectable(port))
            yield Database(f"redis://127.0.0.1:{port}", tls_port, directory)
