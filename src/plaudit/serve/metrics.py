"""What the service counts, in a Prometheus registry of its own."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as Count

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
UNITS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """Counters and histograms by reward; statuses (unparsable, failed ...) are a label, so that none hides in a mean."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here: dict[str, Any] = {"registry": self.registry}
        self.requests = Count("plaudit_requests", "HTTP requests answered.", ["path", "code"], **here)
        self.seconds = Histogram(
            "plaudit_request_seconds", "Seconds from the headers to the whole answer.", ["path"], buckets=SECONDS, **here
        )
        self.results = Count("plaudit_results", "Responses and pairs answered, by status.", ["reward", "status"], **here)
        self.refused = Count("plaudit_refused", "Requests not judged, by status code.", ["reward", "code"], **here)
        self.batch_units = Histogram("plaudit_batch_units", "Units in one call of a reward.", ["reward"], buckets=UNITS, **here)
        self.batch_seconds = Histogram(
            "plaudit_batch_seconds", "Seconds of one call of a reward.", ["reward"], buckets=SECONDS, **here
        )
        self.waiting = Gauge("plaudit_waiting_units", "Units in the queue.", ["reward"], **here)
        self.judged = Count("plaudit_judged_units", "Units judged now.", ["reward"], **here)
        self.reused = Count("plaudit_reused_units", "Units found in the verdict store.", ["reward"], **here)
        self.spent = Count("plaudit_spent", "What judging cost: calls, tokens, money.", ["reward", "what"], **here)
        self.restarts = Count("plaudit_worker_deaths", "Times that a reward's process died or was ended.", ["reward"], **here)
        self.store_waiting = Gauge("plaudit_store_waiting", "Verdicts kept until the verdict store is back.", **here)
        self.ready = Gauge("plaudit_ready", "1 while requests are taken.", **here)

    def count_results(self, reward: str, statuses: Counter[str]) -> None:
        """Add what an answer says, by status."""
        for status, number in statuses.items():
            self.results.labels(reward, status).inc(number)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
