"""node_label: the region of this node, by its label on the API server. Asked once, at start.

A GET of this node alone: needs RBAC get on ``nodes``. No list and no watch: the label is set when a node
joins, and does not change.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from wattspan.errors import NotHereError, ReadError, SetupError
from wattspan.workloads import endpoint
from wattspan.workloads.endpoint import Server

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 3.0
"""For the whole answer: the start waits for it."""


def label_of(server: Server, node_name: str, label: str) -> str:
    """A label of a node; empty where it has none. Blocks for the server's time-out at most.

    Raises:
        ReadError: no answer, a refusal, or nonsense.
    """
    path = f"/api/v1/nodes/{quote(node_name, safe='')}"
    answer = server.get(path)
    try:
        document = json.loads(answer)
        if not isinstance(document["metadata"], dict):
            raise ValueError("no metadata")
        value = (document["metadata"].get("labels") or {}).get(label) or ""
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ReadError("malformed", f"{path}: no Node: {error!r}") from error
    return value if isinstance(value, str) else ""


def asking(
    node_name: str,
    label: str,
    environ: Mapping[str, str],
    connect: Callable[..., Server] = endpoint.api_server,
) -> Callable[[], str]:
    """What asks for a label of this node; it gives an empty text, and logs why, where it cannot be had.

    Args:
        node_name: as the API server knows it.
        label: its key.
        environ: says where the API server is.
        connect: makes the server of `environ`.
    """

    def ask() -> str:
        try:
            return label_of(replace(connect(environ), timeout_s=TIMEOUT_S), node_name, label)
        except (NotHereError, ReadError, SetupError) as error:
            logger.warning("grid: the label %s of node %s is not known: %s", label, node_name, error)
            return ""

    return ask
