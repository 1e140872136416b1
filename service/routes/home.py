"""GET /: what this is, as a page for a person with a browser and as JSON for a program."""

import base64
import hashlib
import json
import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from service.adapters.manifest import ClassificationManifest
from service.adapters.registry import Entry, ServedVersion
from service.common.hosts import is_loopback_only, is_loopback_origin
from service.context import RequestContext
from service.engine.pooling import EncoderTask
from service.errors import InvalidRequest
from service.http.asset import accepts
from service.http.auth import parse_host
from service.http.json_routes import TheContext, TheRuntime
from service.runtime.parts import Runtime
from service.telemetry.lifecycle import package_version

router = APIRouter(include_in_schema=False)

_MOST_MODELS = 50
_CHAT, _CLASSIFY, _EMBED = "/v1/chat/completions", "/v1/classify", "/v1/embeddings"
_OF_ENCODERS: dict[EncoderTask, tuple[str, str]] = {
    "embed": ("encoder for embeddings", _EMBED),
    "score": ("encoder that ranks", "/v1/rerank"),
    "classify": ("encoder that classifies", _CLASSIFY),
}
_JAPAN = "What is the name of the capital city of Japan?"
_KEY = "$LLM_SERVICE_KEY"
_FOUND_AT = {"docs": "/docs", "openapi": "/openapi.json", "models": "/v1/models"}

_Model = tuple[str, str, str]
"""A model's name, what it is, and the route that asks it."""

_STYLE = """
:root { color-scheme: light dark; --soft: light-dark(#565d6b, #a3abba);
  --line: light-dark(#d5d9e0, #363b46); --card: light-dark(#fff, #1d2027);
  --accent: light-dark(#4049b8, #a9b1ff); font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; padding: 2rem 1rem 3rem; max-width: 48rem;
  background: light-dark(#f6f7f9, #14161b); color: light-dark(#1b1e24, #e7e9ee); }
h1 { margin: 0; font-size: 1.5rem; } h2 { margin: 2rem 0 .5rem; font-size: 1.05rem; }
h1 small, p.note { color: var(--soft); font-size: .875rem; font-weight: 400; }
a { color: var(--accent); } code { font-family: ui-monospace, monospace; font-size: .875em; }
ul { padding: 0; list-style: none; display: grid; gap: .5rem; }
pre { margin: .5rem 0; padding: .75rem 1rem; background: var(--card); border-radius: 8px;
  border: 1px solid var(--line); white-space: pre-wrap; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem 1rem .4rem 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-size: .875rem; font-weight: 550; }
tbody th { overflow-wrap: anywhere; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "cache-control": "no-store",
    "vary": "accept",
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


@router.get("/")
async def home(request: Request, runtime: TheRuntime, context: TheContext) -> Response:
    """The page, if the client takes HTML; else where a program finds the rest, as JSON."""
    # Programs that take anything (`*/*`) do not ask for HTML.
    if not accepts(request.headers.get("accept", ""), "text/html", "application/xhtml+xml"):
        told = {"service": "llm-service", "version": package_version(), **_FOUND_AT}
        return JSONResponse(told, headers={"vary": "accept"})
    return HTMLResponse(_page(request, runtime, context), headers=_HEADERS)


def _page(request: Request, runtime: Runtime, context: RequestContext) -> str:
    needs_key = runtime.settings.tenants.keys is not None
    models = [] if needs_key else _models(runtime, context)
    address = _address(request, runtime)
    command = _command(address, models, needs_key=needs_key)
    key = f"with a key, here in <code>{_KEY}</code>" if needs_key else "with any text as the key"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>llm-service</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>llm-service <small>{escape(package_version())}</small></h1>
<p>Language models, adapters and encoders behind OpenAI's and Anthropic's API.</p>
<ul>
{_links(request, runtime)}
</ul>
<h2>Try it</h2>
<pre><code>{escape(command)}</code></pre>
<p class="note">OpenAI's clients take the address <code>{escape(address)}/v1</code>, Anthropic's
<code>{escape(address)}</code>, {key}.</p>
<h2>Models</h2>
{_table(models) if models else "<p><code>GET /v1/models</code> lists what your key may use.</p>"}
</main>
</body>
</html>
"""


def _models(runtime: Runtime, context: RequestContext) -> list[_Model]:
    """What the caller may use: the base model, adapters, encoders."""
    found: list[_Model] = []
    if runtime.language_model is not None and runtime.models.has_base(context.tenant):
        found.append((runtime.base.engine.model.name, "language model", _CHAT))
    adapters = runtime.models.adapters(context.tenant)
    found += [_adapter(name, entry) for name, entry in sorted(adapters.items())]
    encoders = runtime.models.encoders(context.tenant)
    return found + [(each.name, *_OF_ENCODERS[each.task]) for each in encoders]


def _adapter(name: str, entry: Entry) -> _Model:
    if not isinstance(entry, ServedVersion):
        return name, "adapter, quarantined", ""
    if isinstance(entry.manifest, ClassificationManifest):
        labels = entry.manifest.classification.labels
        return name, f"adapter that classifies, {len(labels)} labels", _CLASSIFY
    return name, "adapter that generates", _CHAT


def _table(models: Sequence[_Model]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{what}</td><td><code>{path}</code></td></tr>'
        for name, what, path in models[:_MOST_MODELS]
    )
    more = len(models) - _MOST_MODELS
    rest = f"<p>And {more} more: <code>GET /v1/models</code>.</p>" if more > 0 else ""
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">model</th><th scope="col">what</th>'
        f'<th scope="col">asked at</th></tr></thead><tbody>{rows}</tbody></table></div>{rest}'
    )


def _links(request: Request, runtime: Runtime) -> str:
    """Links to the pages that are on; to those of the admin port if this browser reaches it."""
    found = [("docs", "Documentation", "every route, to try in the browser")]
    console = "/console" in runtime.plugins.open_paths
    if console:
        found.insert(0, ("console", "Console", "chat, classify, compare; usage and limits"))
    http, host = runtime.settings.http, request.headers.get("host", "").lower()
    if http.ops_port and is_loopback_origin(f"http://{host}") and is_loopback_only(http.ops_host):
        admin = f"http://{_bracketed(parse_host(host))}:{http.ops_port}"
        if console:
            found.append((f"{admin}/console", "Live view", "the last ten minutes of the service"))
        found.append((f"{admin}/metrics", "Metrics", "for Prometheus"))
    return "\n".join(
        f'<li><a href="{escape(link)}">{name}</a>: {what}</li>' for link, name, what in found
    )


def _address(request: Request, runtime: Runtime) -> str:
    """The address by which the client came.

    The service speaks no TLS: a name without a port is that of a proxy, which does.
    """
    host = request.headers.get("host", "").lower()
    try:
        bare = _bracketed(parse_host(host)) == host
    except InvalidRequest:
        host, bare = f"127.0.0.1:{runtime.settings.http.port}", False
    secure = bare and not is_loopback_origin(f"http://{host}")
    return f"{'https' if secure else 'http'}://{host}"


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _command(address: str, models: Sequence[_Model], *, needs_key: bool) -> str:
    """A command that works: a question to the first model of the kinds that it knows to ask."""
    parts = [f"curl {address}/v1/models"]
    bodies: dict[str, dict[str, Any]] = {
        _CHAT: {"messages": [{"role": "user", "content": _JAPAN}]},
        _EMBED: {"input": _JAPAN},
    }
    for name, _, path in models:
        if path in bodies:
            body = shlex.quote(json.dumps({"model": name, **bodies[path]}))
            parts = [f"curl {address}{path}", "-H 'Content-Type: application/json'", f"-d {body}"]
            break
    if needs_key:
        parts.append(f'-H "Authorization: Bearer {_KEY}"')
    return " \\\n  ".join(parts)
