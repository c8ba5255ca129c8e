"""`ferrio.observe` in OpenTelemetry and in Prometheus: their own readers and exporters get the figures."""

import asyncio
import subprocess
import sys
import time

import ferrio
import pytest
from ferrio import observe


def busy_loop():
    """A loop that has slept, stepped and been late, still open."""
    loop = ferrio.new_event_loop()

    async def main():
        for _ in range(10):
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    return loop


@pytest.mark.parametrize("packages", [["opentelemetry", "prometheus_client"]])
def test_neither_is_imported_unless_asked_for(packages):
    program = "import sys, ferrio.observe; print(*[name for name in sys.argv[1:] if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program, *packages], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


# --- Prometheus -----------------------------------------------------------------------------------------------------------


def test_prometheus_scrapes_the_loops():
    from ferrio.observe import prometheus
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    registry = CollectorRegistry(auto_describe=True)
    collector = prometheus.register(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        prometheus.register(registry)
    loop = busy_loop()
    stats = observe.loop_stats(loop)
    label = {"loop": str(stats.number)}
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    samples = [sample for family in families for sample in family.samples]

    def value(name, **labels):
        (found,) = [sample.value for sample in samples if sample.name == name and sample.labels == {**label, **labels}]
        return found

    assert value("asyncio_loop_steps_total") == stats.steps >= 11
    assert value("asyncio_loop_turns_total") == stats.turns
    assert value("asyncio_loop_seconds_total", state="asleep") == stats.asleep > 0.005
    assert value("asyncio_loop_seconds_total", state="busy") == stats.busy > 0
    assert value("asyncio_loop_slow_turns_total") == stats.slow_turns
    assert value("asyncio_loop_timers") == stats.timers
    assert (
        0
        < value("asyncio_loop_lateness_seconds", quantile="0.5")
        <= value("asyncio_loop_lateness_seconds", quantile="0.99")
    )
    loop.close()
    registry.unregister(collector)
    assert b"asyncio" not in generate_latest(registry)


# --- OpenTelemetry --------------------------------------------------------------------------------------------------------


@pytest.fixture
def telemetry():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    meters, tracers = MeterProvider([reader]), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    yield reader, spans, {"meter_provider": meters, "tracer_provider": tracers}
    meters.shutdown()
    tracers.shutdown()


def points(reader):
    """name -> data points, of all that is reported now."""
    data = reader.get_metrics_data()
    resources = data.resource_metrics if data is not None else []
    metrics = [metric for resource in resources for scope in resource.scope_metrics for metric in scope.metrics]
    return {metric.name: list(metric.data.data_points) for metric in metrics}


def test_opentelemetry_reads_the_loops_when_it_exports(telemetry):
    from ferrio.observe import otel

    reader, spans, providers = telemetry
    instrumentation = otel.instrument(**providers, slow_step=None)
    loop = busy_loop()
    stats = observe.loop_stats(loop)
    found = points(reader)

    def value(name, **attributes):
        wanted = {"asyncio.eventloop.number": stats.number, **attributes}
        (point,) = [point for point in found[name] if dict(point.attributes) == wanted]
        return point.value

    assert value("asyncio.eventloop.steps") == stats.steps
    assert value("asyncio.eventloop.turns") == stats.turns
    assert value("asyncio.eventloop.time", **{"asyncio.eventloop.state": "busy"}) == stats.busy
    assert value("asyncio.eventloop.time", **{"asyncio.eventloop.state": "asleep"}) == stats.asleep
    assert value("asyncio.eventloop.timers") == stats.timers
    assert 0 < value("asyncio.eventloop.delay", percentile=50) <= value("asyncio.eventloop.delay", percentile=99)
    # Never a span for a step.
    assert spans.get_finished_spans() == ()
    instrumentation.close()
    loop.close()
    assert not any(points(reader).values())


def test_opentelemetry_has_a_span_for_each_slow_step_and_for_no_other(telemetry):
    from ferrio.observe import otel

    reader, spans, providers = telemetry
    instrumentation = otel.instrument(**providers, slow_step=0.05)

    async def main():
        asyncio.current_task().set_name("the culprit")
        for _ in range(100):
            await asyncio.sleep(0)
        time.sleep(0.3)

    before = time.time_ns()
    ferrio.run(main())
    deadline = time.monotonic() + 30
    while not spans.get_finished_spans() and time.monotonic() < deadline:
        time.sleep(0.01)
    (span,) = spans.get_finished_spans()
    assert span.name == "asyncio slow step"
    assert span.attributes["asyncio.task.name"] == "the culprit"
    assert span.attributes["code.function.name"] == "main" and span.attributes["code.file.path"] == __file__
    assert span.attributes["code.line.number"] == main.__code__.co_firstlineno + 4
    assert "time.sleep(0.3)" in span.attributes["code.stacktrace"]
    assert before <= span.start_time and 50_000_000 < span.end_time - span.start_time <= time.time_ns() - before
    (point,) = points(reader)["asyncio.eventloop.slow_step.duration"]
    assert point.count == 1 and point.sum > 0.05
    instrumentation.close()
