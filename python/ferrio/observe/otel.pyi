from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.trace import Tracer, TracerProvider

LONGEST_TEXT: int

class Instrumentation:
    def __init__(self, meter: Meter, tracer: Tracer, slow_step: float | None) -> None: ...
    def close(self) -> None: ...

def instrument(
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    slow_step: float | None = 0.1,
) -> Instrumentation: ...
