"""Pipes for a test."""

import asyncio
import os

import pytest


@pytest.fixture
def tells(new_loop):
    """For tests that ask a pipe whether it reads."""
    known = asyncio.unix_events._UnixReadPipeTransport.is_reading is not asyncio.ReadTransport.is_reading
    if not known and new_loop is asyncio.SelectorEventLoop:
        pytest.skip("early versions of 3.11 have pipes that cannot tell whether they read")


@pytest.fixture
def ends():
    """The two ends of a pipe as file objects, closed afterwards."""
    reader, writer = os.pipe()
    files = open(reader, "rb", 0), open(writer, "wb", 0)
    yield files
    for file in files:
        file.close()
