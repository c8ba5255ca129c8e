"""With FERRIO_TEST_NATIVE=1 all of these tests run with ferrio's primitives in the places of asyncio's; here is that they do."""

import asyncio

from conftest import NATIVE

MODULE = "ferrio" if NATIVE else "asyncio"


def test_the_primitives_are_whose_they_should_be_here_and_in_programs(program):
    assert asyncio.Lock.__module__.partition(".")[0] == MODULE
    code = "import asyncio; print(asyncio.Lock.__module__, asyncio.locks.Lock.__module__)"
    ran = program("-c", code)
    assert ran.wait() == 0
    assert ran.output.split() == [f"{MODULE}.locks"] * 2
