from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

class LoopCollector(Collector):
    def collect(self) -> Iterable[Metric]: ...

def register(registry: CollectorRegistry = ...) -> LoopCollector: ...
