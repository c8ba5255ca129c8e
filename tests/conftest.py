"""What all tests need of the process that runs them."""

import signal

# A shell that starts the tests in the background has its children ignore Ctrl-C, and theirs inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
