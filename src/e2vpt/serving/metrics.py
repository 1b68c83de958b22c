"""What a server tells Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric

from e2vpt.multitask.tasks import MultiTask
from e2vpt.serving.batcher import BatchReport

MOST_LABELS = 200
"""Different tasks among the labels; those that come later are counted together, as "other"."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class ServerMetrics:
    """Counters, gauges and histograms of one server, in a registry of their own."""

    def __init__(self, tasks: MultiTask) -> None:
        self._registry = registry = CollectorRegistry()
        self._labels: set[str] = set()
        self._requests = Counter(
            "e2vpt_requests", "Requests, by task and HTTP status.", ["task", "code"], registry=registry
        )
        self._latency = Histogram(
            "e2vpt_request_seconds",
            "From a request's head to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = Histogram(
            "e2vpt_queue_seconds", "Images waited for their batch.", buckets=_SECONDS, registry=registry
        )
        self._forward = Histogram(
            "e2vpt_forward_seconds", "Forward passes took.", buckets=_SECONDS, registry=registry
        )
        self._images = Histogram(
            "e2vpt_batch_images", "Images of a batch.", buckets=_COUNTS, registry=registry
        )
        self._tasks = Histogram(
            "e2vpt_batch_tasks", "Different tasks of a batch.", buckets=_COUNTS, registry=registry
        )
        self._load = Histogram(
            "e2vpt_load_seconds", "Loading an adapter took.", buckets=_SECONDS, registry=registry
        )
        counts = {
            "e2vpt_tasks": ("Tasks loaded.", lambda: len(tasks.names)),
            "e2vpt_tasks_in_memory": ("Tasks whose values are in memory.", lambda: tasks.num_in_memory),
            "e2vpt_tasks_on_device": ("Tasks whose values are on the device.", lambda: len(tasks.slots)),
            "e2vpt_device_bytes": ("Of the tasks' values on the device.", lambda: tasks.slots.num_bytes),
        }
        for name, (text, count) in counts.items():
            Gauge(name, text, registry=registry).set_function(count)
        registry.register(_Evictions(tasks))

    def on_request(self, tasks: Sequence[str], code: int, seconds: float) -> None:
        """A request was answered; `tasks` are those it asked for and that exist."""
        for task in dict.fromkeys(tasks) or [""]:
            self._requests.labels(self._label(task), str(code)).inc()
        self._latency.observe(seconds)

    def on_batch(self, batch: BatchReport) -> None:
        """A batch was computed."""
        for seconds in batch.waited:
            self._queue.observe(seconds)
        self._forward.observe(batch.seconds)
        self._images.observe(batch.num_images)
        self._tasks.observe(batch.num_tasks)

    def on_load(self, seconds: float) -> None:
        """An adapter was loaded."""
        self._load.observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _label(self, task: str) -> str:
        if task and task not in self._labels and len(self._labels) >= MOST_LABELS:
            return "other"
        if task:
            self._labels.add(task)
        return task


class _Evictions:
    """`Counter` cannot show a number that is counted elsewhere."""

    def __init__(self, tasks: MultiTask) -> None:
        self._tasks = tasks

    def collect(self) -> list[Metric]:
        text = "Tasks that made room on the device for others."
        return [CounterMetricFamily("e2vpt_evictions", text, value=self._tasks.slots.evictions)]
