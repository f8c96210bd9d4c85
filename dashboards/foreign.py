"""Metrics that are not ours: which inference servers tell what, and where we have their names from."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Server:
    """One inference server.

    Attributes:
        name: as its makers write it.
        requests: counter of requests that were answered, with label matchers of its own.
        tokens: counter of generated tokens; empty where it counts none.
        origin: where the names were read.
    """

    name: str
    requests: str
    tokens: str
    origin: str


SERVERS: Final = (
    Server(
        "vLLM",
        "vllm:request_success_total",
        "vllm:generation_tokens_total",
        # The code names them without _total, which prometheus_client adds.
        "https://github.com/vllm-project/vllm, vllm/v1/metrics/loggers.py and docs/design/metrics.md",
    ),
    Server(
        "TGI",
        "tgi_request_success",
        "tgi_request_generated_tokens_sum",
        # A histogram of tokens per request: its sum is the counter of tokens.
        "https://huggingface.co/docs/text-generation-inference/reference/metrics",
    ),
    Server(
        "Triton",
        "nv_inference_request_success",
        "",
        "https://github.com/triton-inference-server/server, docs/user_guide/metrics.md",
    ),
    Server(
        "BentoML",
        'bentoml_service_request_total{http_response_code=~"2.."}',
        "",
        "https://docs.bentoml.com/en/latest/build-with-bentoml/observability/metrics.html",
    ),
)

PROMETHEUS: Final = (
    "ALERTS",
    "up",
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
)
"""What Prometheus itself and every client library tell."""

NAMES: Final = frozenset(
    {
        selector.partition("{")[0]
        for server in SERVERS
        for selector in (server.requests, server.tokens)
        if selector
    }
    | set(PROMETHEUS)
)
"""All of them, without labels."""
