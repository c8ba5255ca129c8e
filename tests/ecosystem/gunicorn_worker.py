"""gunicorn's worker: uvicorn's, on the loop under test."""

import os

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):
    CONFIG_KWARGS = {"loop": os.environ.get("FERRIO_TEST_FACTORY", "ferrio:new_event_loop"), "http": "httptools"}
