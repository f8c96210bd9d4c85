"""What others would export: inference servers, a hub, and the rare series that no demo shows at once.

The figures grow with time, so that rates are there; nothing in them is meant to be true.
"""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

DAY_S: Final = 86_400
NODE: Final = "gpu-2"
WIDE_RUN: Final = f"llama-sft-{NODE}"
"""A run of the demo that has a second node here."""


class ForeignSeries:
    """An exporter of text on loopback; scrape it with ``honor_labels: true``."""

    def __init__(self) -> None:
        self._began_s = time.time()
        page = self._page

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _page(self) -> str:
        now_s = time.time()
        return "".join(f"{line}\n" for line in _series(now_s, now_s - self._began_s))


def _series(now_s: float, age_s: float) -> Iterator[str]:
    yield from _servers(age_s)
    yield from _budgets(now_s)
    yield from _rare(age_s)
    yield from _second_node(now_s, age_s)


def _servers(age_s: float) -> Iterator[str]:
    """Four pods of one node, each with another server; energy as the exporter would tell it."""
    for pod, watts in (
        ("chat-vllm-0", 310),
        ("chat-tgi-0", 190),
        ("vision-triton-0", 140),
        ("rank-bento-0", 90),
    ):
        where = f'pod_namespace="serving",pod_name="{pod}",container_name="server",instance="{NODE}"'
        kind = f'{where},component="gpu",attribution="exclusive"'
        yield f"wattspan_pod_energy_joules_total{{{kind}}} {watts * age_s}"
        yield f'wattspan_pod_co2e_grams_total{{{where},basis="lifecycle"}} {watts * age_s * 330 / 3.6e6}'
        yield f"wattspan_pod_idle_gpu_seconds_total{{{where}}} {0.2 * age_s}"
    vllm = 'namespace="serving",pod="chat-vllm-0",model_name="llama-3.1-8b",engine="0"'
    yield f"vllm:generation_tokens_total{{{vllm}}} {1400 * age_s}"
    yield f"vllm:prompt_tokens_total{{{vllm}}} {5200 * age_s}"
    yield f'vllm:request_success_total{{{vllm},finished_reason="stop"}} {6 * age_s}'
    tgi = 'namespace="serving",pod="chat-tgi-0"'
    yield f"tgi_request_generated_tokens_sum{{{tgi}}} {600 * age_s}"
    yield f"tgi_request_input_length_sum{{{tgi}}} {2100 * age_s}"
    yield f"tgi_request_success{{{tgi}}} {3 * age_s}"
    yield (
        'nv_inference_request_success{namespace="serving",pod="vision-triton-0",model="resnet50",version="1"}'
        f" {85 * age_s}"
    )
    yield (
        'bentoml_service_request_total{namespace="serving",pod="rank-bento-0",service_name="rank",'
        f'endpoint="/rank",http_response_code="200"}} {40 * age_s}'
    )


def _budgets(now_s: float) -> Iterator[str]:
    """A hub with three budgets: one generous, one tight, one that is exceeded."""
    for budget, namespace, project, period, grams, days in (
        ("all", "", "", "month", 40_000, 30),
        ("vision", "", "vision", "7d", 60, 7),
        ("nlp", "nlp", "", "30d", 300, 30),
    ):
        owner = f'pod_namespace="{namespace}",project="{project}"'
        labels = f'budget="{budget}",{owner},period="{period}",instance="hub"'
        yield f"wattspan_budget_co2e_grams{{{labels}}} {grams}"
        yield f"wattspan_budget_period_start_timestamp_seconds{{{labels}}} {now_s - days * DAY_S / 2}"
        yield f"wattspan_budget_period_end_timestamp_seconds{{{labels}}} {now_s + days * DAY_S / 2}"
    yield 'wattspan_hub_up{instance="hub"} 1'
    yield 'wattspan_hub_records_pending{instance="gpu-1"} 3'
    yield 'wattspan_hub_late_records_total{instance="hub"} 2'


def _rare(age_s: float) -> Iterator[str]:
    """What takes hours to happen on a demo: waste of failed and repeated work; and an estimated host."""
    for reason, watts in (("failed", 40), ("repeated", 15)):
        owner = f'pod_namespace="nlp",project="assistant",reason="{reason}",instance="{NODE}"'
        yield f"wattspan_owner_wasted_energy_joules_total{{{owner}}} {watts * age_s}"
        yield f'wattspan_owner_wasted_cost_total{{{owner},currency="EUR"}} {watts * age_s * 0.31 / 3.6e6}'
    yield (
        f'wattspan_host_estimated_energy_joules_total{{component="cpu",device="all",instance="gpu-1"}}'
        f" {120 * age_s}"
    )
    yield 'wattspan_host_estimated_power_watts{component="cpu",device="all",instance="gpu-1"} 120'


def _second_node(now_s: float, age_s: float) -> Iterator[str]:
    """What a further node would tell of a run of gpu-2: its part alone, and no progress."""
    run = f'run_id="{WIDE_RUN}",instance="gpu-9"'
    yield (
        f'wattspan_run_info{{{run},run_name="llama-sft",project="assistant",group="base",'
        'framework="transformers",source="kubernetes"} 1'
    )
    kind = f'{run},component="gpu",attribution="exclusive"'
    yield f"wattspan_run_energy_joules_total{{{kind}}} {1300 * age_s}"
    yield (
        f'wattspan_run_co2e_grams_total{{{run},part="operational",basis="lifecycle"}}'
        f" {1300 * age_s * 330 / 3.6e6}"
    )
    yield f"wattspan_run_power_watts{{{run}}} 1300"
    yield f"wattspan_run_gpus{{{run}}} 2"
    yield f"wattspan_run_gpu_seconds_total{{{run}}} {2 * age_s}"
    yield f"wattspan_run_idle_gpu_seconds_total{{{run}}} {0.3 * age_s}"
    yield f"wattspan_run_start_timestamp_seconds{{{run}}} {now_s - age_s}"
