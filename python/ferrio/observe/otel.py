"""Loops in OpenTelemetry: ``pip install ferrio[otel]``, then ``ferrio.observe.otel.instrument()``.

Of the loops' counters there are metrics, read when they are exported; of slow steps there are a histogram and spans. There is
never a span per step. Only the API is needed: which SDK exports it, and where to, is the program's choice.
"""

import time

from opentelemetry import metrics, trace
from opentelemetry.metrics import Observation

from .. import _ferrio
from .._loops import loops
from .slow import on_slow_step
from .statistics import loop_stats

#: Characters of an attribute.
LONGEST_TEXT = 4096

_PERCENTILES = (50, 90, 99)


class Instrumentation:
    """What `instrument` returns. ``close()`` ends it: instruments of OpenTelemetry cannot be taken back, but report nothing
    any more."""

    def __init__(self, meter, tracer, slow_step):
        self._is_closed = False
        self._tracer = tracer
        seconds = {"unit": "s"}
        counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
        counter(
            "asyncio.eventloop.steps", [self._each(_steps)], description="Steps of tasks and callbacks.", unit="{step}"
        )
        counter("asyncio.eventloop.turns", [self._each(_turns)], description="Turns of the loop.", unit="{turn}")
        counter(
            "asyncio.eventloop.time",
            [self._each(_time)],
            description="Time that the loop was in each state.",
            **seconds,
        )
        gauge("asyncio.eventloop.timers", [self._each(_timers)], description="Timers that are set.", unit="{timer}")
        gauge(
            "asyncio.eventloop.delay",
            [self._each(_delay)],
            description="How late timers fired, by percentile.",
            **seconds,
        )
        self._lengths = meter.create_histogram(
            "asyncio.eventloop.slow_step.duration", description="Steps that held the loop up.", **seconds
        )
        self._watch = on_slow_step(self._slow, slow_step) if slow_step is not None else None

    def close(self):
        """Report nothing from now on."""
        self._is_closed = True
        if self._watch is not None:
            self._watch.cancel()

    def _each(self, read):
        def observe(_options):
            for loop in [] if self._is_closed else loops():
                stats = loop_stats(loop)
                for value, attributes in read(stats):
                    yield Observation(value, {"asyncio.eventloop.number": stats.number, **attributes})

        return observe

    def _slow(self, step):
        if not step.is_over:
            return
        attributes = {"asyncio.eventloop.number": step.loop._number}
        self._lengths.record(step.seconds, attributes)
        if step.task is not None:
            attributes["asyncio.task.name"] = step.task.get_name()[:LONGEST_TEXT]
        if step.stack:
            innermost = step.stack[-1]
            attributes["code.function.name"] = innermost.name
            attributes["code.file.path"] = innermost.filename
            attributes["code.line.number"] = innermost.lineno
            attributes["code.stacktrace"] = "".join(step.stack.format())[-LONGEST_TEXT:]
        end = time.time_ns()
        begin = end - int(step.seconds * 1e9)
        span = self._tracer.start_span("asyncio slow step", start_time=begin, attributes=attributes)
        span.end(end)


def instrument(*, meter_provider=None, tracer_provider=None, slow_step=0.1):
    """Report this process's loops, to the global providers if none are given. Returns an `Instrumentation`.

    ``slow_step`` is from how many seconds on a step counts as slow; None for no histogram and no spans of those.
    ValueError if it is not positive.
    """
    meter = metrics.get_meter("ferrio", _ferrio.__version__, meter_provider)
    tracer = trace.get_tracer("ferrio", _ferrio.__version__, tracer_provider)
    return Instrumentation(meter, tracer, slow_step)


def _steps(stats):
    yield stats.steps, {}


def _turns(stats):
    yield stats.turns, {}


def _time(stats):
    yield stats.busy, {"asyncio.eventloop.state": "busy"}
    yield stats.asleep, {"asyncio.eventloop.state": "asleep"}


def _timers(stats):
    yield stats.timers, {}


def _delay(stats):
    for percent in _PERCENTILES:
        yield stats.lateness.percentile(percent), {"percentile": percent}
