"""First thing in every Python of a run with FERRIO_TEST_NATIVE=1: asyncio's queues, locks, streams, … are ferrio's."""

from ferrio._install import install_natives

install_natives()
