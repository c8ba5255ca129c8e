"""A TLS connection for a test."""

import pytest

from ..support import Recorder
from .ends import tls_pair


@pytest.fixture
def pair(sockets, client_tls, server_tls):
    async def make(factory=Recorder, **options):
        return await tls_pair(sockets, client_tls, server_tls, factory, **options)

    return make
