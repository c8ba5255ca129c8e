"""What all tests need of the process that runs them."""

import os
import signal

# A shell that starts the tests in the background has its children ignore Ctrl-C, and theirs inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where these are set pytest explains a failed comparison in full, and with 100 KB that takes longer than a test may. (The
# interruption in the middle of it ended the whole run, for a test that is expected to fail.)
for name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(name, None)
