"""Every test of child processes also runs on ferrio's loop as it is where the system has no pidfds."""

import ferrio
import pytest

from ..conftest import FACTORIES


@pytest.fixture(params=[*FACTORIES, "ferrio without pidfds"])
def new_loop(request):
    """What makes a loop; ferrio's also watches children by threads, as it does where the system has no pidfds."""
    without = request.param == "ferrio without pidfds"
    ferrio._ferrio._use_pidfds_for_tests(not without)
    yield FACTORIES[request.param.split()[0]]
    ferrio._ferrio._use_pidfds_for_tests(True)
