"""How the tests of TLS run."""

import asyncio

import pytest

from .ends import turns


@pytest.fixture
def run(new_loop):
    """Run a coroutine on a fresh loop; what reaches the exception handler goes into the list that it returns."""

    def run(main, **keywords):
        errors = []

        async def bounded():
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
            async with asyncio.timeout(20):
                await main()
            await turns(3)

        with asyncio.Runner(loop_factory=new_loop, **keywords) as runner:
            runner.run(bounded())
        return errors

    return run
