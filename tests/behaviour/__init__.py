"""What an asyncio program may rely on: a named test per behaviour, run on CPython's own loop and on ferrio's.

CPython's loop is the oracle. A test that it fails says so with `stock_differs`, and why.
"""
