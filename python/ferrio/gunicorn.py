"""gunicorn's worker on ferrio's loop: ``gunicorn app:app -k ferrio.gunicorn.UvicornWorker``. Needs uvicorn-worker."""

from typing import Any, ClassVar

import uvicorn_worker  # type: ignore


class UvicornWorker(uvicorn_worker.UvicornWorker):
    """uvicorn's worker with the loop chosen."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **uvicorn_worker.UvicornWorker.CONFIG_KWARGS,
        "loop": "ferrio:new_event_loop",
    }
