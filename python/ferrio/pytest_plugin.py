"""A pytest plug-in, for who asks: tests and fixtures of pytest-asyncio (1.4 or newer) run on ferrio's loop.

``pytest -p ferrio.pytest_plugin``, or ``pytest_plugins = ["ferrio.pytest_plugin"]`` in the top ``conftest.py``.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import pytest

from .event_loop import new_event_loop


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """pytest-asyncio asks which loops to run a test on, by name."""
    return {"ferrio": new_event_loop}
