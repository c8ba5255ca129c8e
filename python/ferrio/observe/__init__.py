"""What a program can know of its own loops: how busy they are, what their tasks wait for, which steps hold others up.

Statistics come from the counters that every loop keeps anyway (docs/observe.md); asking costs microseconds, and nothing is
kept that nobody asks for. ``ferrio.observe.otel`` and ``ferrio.observe.prometheus`` hand the same to OpenTelemetry and to
Prometheus; they are never imported from here.
"""

from .. import _ferrio
from .._loops import loops
from .slow import SlowStep, SlowStepWatch, on_slow_step
from .statistics import LoopStats, Times, loop_stats
from .waiting import TaskStats, awaited_by, awaited_by_chain, tasks

__all__ = [
    "LoopStats", "SlowStep", "SlowStepWatch", "TaskStats", "Times", "awaited_by", "awaited_by_chain", "dump", "level",
    "loop_stats", "loops", "on_slow_step", "tasks",
]  # fmt: skip


def level(wanted=None):
    """How much the loops of this process record: "pulse" (counters, the default), "flight" (each wake-up and step with
    its cause, in a ring), "deep"; "off" in a build without the record. With an argument, they do that from their next
    look at the operating system on. Returns what was wanted before.

    ValueError for another word.
    """
    before = _ferrio.wanted_level()
    if wanted is not None:
        _ferrio.want_level(wanted)
    return before


def dump(path):
    """Save the record of this process as it is now, for ``ferrio export``. Returns the number of records.

    OSError if the file cannot be written, or if the record is not in a file (no tmpfs, FERRIO_PAGE=off).
    """
    from ..flight import log

    page = _ferrio.page_path()
    if page is None:
        raise OSError("this process has no page: there is no tmpfs for it, or FERRIO_PAGE=off")
    kept = log.of_page(page)
    log.save(kept, path)
    return len(kept.records)
