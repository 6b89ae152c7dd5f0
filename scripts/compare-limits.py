#!/usr/bin/env python3
"""Who lets how many into the worst window: the same arrivals at nginx, HAProxy, Envoy and the gateway.

    cargo build --release && scripts/compare-limits.py [--limit 100] [--window 10]

Each is told "LIMIT requests in WINDOW seconds by client address" in the words that it has for that, and gets each pattern of
arrivals in a fresh process. Programs are taken from PATH, or from NGINX, HAPROXY, ENVOY and GAPURA; one that is not there is
left out. Everything is on loopback and free ports, and is stopped at the end.

A request is decided between the moment at which its client sends it and the moment at which the answer is there. It counts in
a window only where both lie in it: what is printed is a lower bound, whatever the machine does meanwhile.
"""

import argparse
import asyncio
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

GAPURA = """
[server]
http = ["127.0.0.1:{port}"]
plaintext = true
[upstreams.backend]
servers = ["127.0.0.1:{backend}"]
[rate_limits.compared]
limit = {limit}
window = "{window}s"
by = "client_ip"
algorithm = "{algorithm}"
[[routes]]
name = "all"
path = "/**"
upstream = "backend"
rate_limits = ["compared"]
"""

# limit_req knows a rate and a burst; without the burst it would refuse the second of two requests at once.
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr crit; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off; limit_req_log_level info; limit_req_status 429;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    limit_req_zone $binary_remote_addr zone=compared:1m rate={rate}r/s;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{ limit_req zone=compared burst={burst} nodelay; proxy_pass http://127.0.0.1:{backend}; }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend compared
    bind 127.0.0.1:{port}
    stick-table type ip size 100k expire {expire}s store http_req_rate({window}s)
    http-request track-sc0 src
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {limit} }}
    default_backend all
backend all
    server one 127.0.0.1:{backend}
"""

ENVOY = """
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: compared
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: backend }} }}] }}
          http_filters:
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: compared
              token_bucket: {{ max_tokens: {limit}, tokens_per_fill: {limit}, fill_interval: {window}s }}
              filter_enabled: {{ default_value: {{ numerator: 100, denominator: HUNDRED }} }}
              filter_enforced: {{ default_value: {{ numerator: 100, denominator: HUNDRED }} }}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend} }} }} }} }}] }}]
"""


def contenders(root):
    """Name, configuration, the command with {file} for it, what the configuration is told besides."""
    gapura = os.environ.get("GAPURA") or next(
        (str(path) for path in (root / "target/release/gapura", root / "target/debug/gapura") if path.exists()), "gapura")
    nginx, haproxy, envoy = (os.environ.get(name.upper()) or name for name in ("nginx", "haproxy", "envoy"))
    run = [gapura, "run", "--config", "{file}"]
    return [
        ("Gapura, sliding_window", GAPURA, run, {"algorithm": "sliding_window"}),
        ("Gapura, sliding_log", GAPURA, run, {"algorithm": "sliding_log"}),
        ("Gapura, gcra", GAPURA, run, {"algorithm": "gcra"}),
        ("nginx, limit_req", NGINX, [nginx, "-p", "{folder}", "-c", "{file}", "-e", "stderr"], {}),
        ("HAProxy, stick table", HAPROXY, [haproxy, "-f", "{file}"], {}),
        ("Envoy, local_ratelimit", ENVOY, [envoy, "-c", "{file}", "--concurrency", "1", "--use-dynamic-base-id",
                                           "--log-level", "critical"], {}),
    ]


def patterns(limit, window):
    """Instants, in seconds from the first request; their number at each."""
    pace = window / limit
    edge = window / 100
    return {
        # One opens the window, the others come at its end; then as many as a window holds at the beginning of the next.
        "end and start": [(0, 1), (window - edge, limit - 1), (window + edge, limit), (2 * window, 1)],
        # The same end; then no faster than the limit on average, as whoever shuns refusals would.
        "end, then paced": [(0, 1), (window - edge, limit - 1)]
        + [(window + edge + n * pace, 1) for n in range(1, limit + 1)],
        "all at once, each half window": [(n * window / 2, limit) for n in range(6)],
        "twice the limit, steady": [(n * pace / 2, 1) for n in range(6 * limit)],
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def answer(reader, writer):
    """The backend: 200 to everything."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def connect(port, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)


async def request(port, at):
    """When it was sent, when it was answered, and how. The connection is there before, so that bursts are bursts."""
    await asyncio.sleep(max(0, at - time.monotonic() - 1))
    reader, writer = await connect(port)
    await asyncio.sleep(max(0, at - time.monotonic()))
    sent = time.monotonic()
    writer.write(b"GET / HTTP/1.1\r\nHost: compared.test\r\nConnection: close\r\n\r\n")
    status = int((await reader.readline()).split()[1])
    answered = time.monotonic()
    writer.close()
    return sent, answered, status


def worst(passed, window):
    """The most that were certainly decided within one window."""
    return max((sum(sent >= begin and answered <= begin + window for sent, answered, _ in passed)
                for begin, _, _ in passed), default=0)


async def compare(contender, arrivals, options, backend, late):
    name, config, command, more = contender
    await asyncio.sleep(late)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        file = pathlib.Path(folder, "config.yaml")
        limit, window = options.limit, options.window
        file.write_text(config.format(port=port, backend=backend, limit=limit, window=window, folder=folder, **more,
                                      rate=limit // window, burst=limit - 1, expire=2 * window))
        program = subprocess.Popen([part.format(file=file, folder=folder) for part in command],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            # Connected to, and asked nothing: what is counted begins with the pattern.
            (await connect(port))[1].close()
            begin = time.monotonic() + 1.5
            asked = [request(port, begin + at) for at, number in arrivals for _ in range(number)]
            answered = await asyncio.gather(*asked)
        except (OSError, IndexError) as why:
            program.terminate()
            told = program.communicate()[1].decode(errors="replace").strip().splitlines()
            raise RuntimeError("\n".join([f"{name}: {why}", *told[:3]])) from why
        finally:
            program.terminate()
            program.communicate()
        other = {status for _, _, status in answered} - {200, 429}
        if other:
            raise RuntimeError(f"{name} answered {other}")
        passed = [one for one in answered if one[2] == 200]
        return worst(passed, window), len(passed), len(answered)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--window", type=int, default=10, help="seconds")
    options = parser.parse_args()
    if options.limit % options.window:
        parser.error("nginx takes whole requests a second: the limit has to be a multiple of the window")
    backend = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    port = backend.sockets[0].getsockname()[1]
    there = [one for one in contenders(pathlib.Path(__file__).resolve().parent.parent) if shutil.which(one[2][0])]
    kinds = patterns(options.limit, options.window)
    cells = [(one, kind) for kind in kinds for one in there]
    # One after the other, but not one at a time: bursts of two contenders should not meet.
    jobs = [compare(one, kinds[kind], options, port, index * options.window / 25)
            for index, (one, kind) in enumerate(cells)]
    measured = await asyncio.gather(*jobs, return_exceptions=True)
    failed = [str(one) for one in measured if isinstance(one, BaseException)]
    if failed:
        raise SystemExit("\n".join(failed))
    found = dict(zip([(one[0], kind) for one, kind in cells], measured))
    print(f"Limit {options.limit} in {options.window} s. In the worst window (passed of all that came).\n")
    print("| | " + " | ".join(kinds) + " |\n| --- |" + " --- |" * len(kinds))
    for name, *_ in there:
        row = [found[name, kind] for kind in kinds]
        print(f"| {name} | " + " | ".join(f"{most} ({passed} of {came})" for most, passed, came in row) + " |")


if __name__ == "__main__":
    asyncio.run(main())
