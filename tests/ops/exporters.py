"""A page of programs that are not here: kube-state-metrics, DCGM's exporter, another replica."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_DCGM = """\
DCGM_FI_DEV_GPU_UTIL{gpu="0",Hostname="node-1",modelName="NVIDIA H100 80GB HBM3"} 87
DCGM_FI_DEV_FB_USED{gpu="0",Hostname="node-1",modelName="NVIDIA H100 80GB HBM3"} 73000
DCGM_FI_DEV_FB_FREE{gpu="0",Hostname="node-1",modelName="NVIDIA H100 80GB HBM3"} 8000
DCGM_FI_DEV_XID_ERRORS{gpu="0",Hostname="node-1",modelName="NVIDIA H100 80GB HBM3"} 0
"""
_PODS = """\
kube_pod_status_scheduled{{namespace="inference",pod="llm-1",condition="false"}} {short}
kube_pod_status_scheduled{{namespace="inference",pod="llm-2",condition="true"}} 1
kube_pod_status_ready{{namespace="inference",pod="llm-2",condition="true"}} {full}
kube_deployment_spec_replicas{{namespace="inference",deployment="llm"}} 2
kube_deployment_status_replicas_updated{{namespace="inference",deployment="llm"}} 2
kube_deployment_status_replicas_available{{namespace="inference",deployment="llm"}} {available}
"""
_REPLICA = """\
inference_build_info{{version="0",model="other",digest=""}} 1
process_start_time_seconds {started}
inference_adapter_list_accepted {accepted}
inference_adapters_behind {behind}
"""


class Exporters:
    """What the page says: whether pods are `short`, the replica is `restarting`, or `behind`.

    The replica follows a list of adapters, which the observed service cannot beside its releases.
    """

    def __init__(self) -> None:
        self.address = ""
        self.short = self.restarting = self.behind = False
        self._starts = itertools.count(1)
        self._started = 0

    def page(self) -> str:
        """The page of this scrape; a replica that restarts has a new start on each."""
        if self.restarting:
            self._started = next(self._starts)
        pods = _PODS.format(
            short=int(self.short), full=int(not self.short), available=0 if self.short else 2
        )
        replica = _REPLICA.format(
            started=self._started, accepted=int(not self.behind), behind=int(self.behind)
        )
        return _DCGM + pods + replica


@contextmanager
def exporters() -> Iterator[Exporters]:
    """Serve the page on the loopback."""
    pages = Exporters()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.page().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pages.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
