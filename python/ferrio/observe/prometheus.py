"""Loops in Prometheus: ``pip install ferrio[prometheus]``, then ``ferrio.observe.prometheus.register()``.

The loops' counters are read when somebody scrapes, and never else.
"""

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from .._loops import loops
from .statistics import loop_stats

_QUANTILES = (0.5, 0.9, 0.99)


class LoopCollector(Collector):
    """A collector of all loops of this process, each under its number as the label ``loop``."""

    def collect(self):
        """The metrics, as they are now."""
        number, state, quantile = ["loop"], ["loop", "state"], ["loop", "quantile"]
        steps = CounterMetricFamily("asyncio_loop_steps", "Steps of tasks and callbacks.", labels=number)
        turns = CounterMetricFamily("asyncio_loop_turns", "Turns of the loop.", labels=number)
        time = CounterMetricFamily("asyncio_loop_seconds", "Time that the loop was in each state.", labels=state)
        slow = CounterMetricFamily("asyncio_loop_slow_turns", "Turns of a tenth of a second or longer.", labels=number)
        timers = GaugeMetricFamily("asyncio_loop_timers", "Timers that are set.", labels=number)
        late = GaugeMetricFamily("asyncio_loop_lateness_seconds", "How late timers fired lately.", labels=quantile)
        for loop in loops():
            stats = loop_stats(loop)
            label = str(stats.number)
            steps.add_metric([label], stats.steps)
            turns.add_metric([label], stats.turns)
            time.add_metric([label, "busy"], stats.busy)
            time.add_metric([label, "asleep"], stats.asleep)
            slow.add_metric([label], stats.slow_turns)
            timers.add_metric([label], stats.timers)
            for part in _QUANTILES:
                late.add_metric([label, str(part)], stats.lateness.percentile(100 * part))
        return [steps, turns, time, slow, timers, late]


def register(registry=REGISTRY):
    """Have a registry (the global one if none is given) report this process's loops. Returns the `LoopCollector`, which
    ``registry.unregister()`` takes.

    ValueError if the registry has these metrics already.
    """
    collector = LoopCollector()
    registry.register(collector)
    return collector
