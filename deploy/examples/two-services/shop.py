#!/usr/bin/env python3
"""A service in a version of its own, and users, for the walk-through without Kubernetes. Standard library only.

    shop.py serve PORT VERSION [--errors 0.2]    GET / answers the version, GET /metrics counts as client libraries do
    shop.py visit URL REQUESTS_PER_SECOND        sends requests until it is stopped
"""
import random
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(port, version, errors):
    counts = {"200": 0, "500": 0}
    lock = threading.Lock()

    class Shop(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/metrics":
                with lock:
                    lines = [f'http_requests_total{{code="{code}"}} {count}' for code, count in counts.items()]
                return self.answer(200, "# TYPE http_requests_total counter\n" + "\n".join(lines) + "\n")
            code = 500 if random.random() < errors else 200
            with lock:
                counts[str(code)] += 1
            self.answer(code, version + "\n")

        def answer(self, code, text):
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Shop).serve_forever()


def visit(url, per_second):
    while True:
        began = time.monotonic()
        try:
            urllib.request.urlopen(url, timeout=2).read()
        except OSError:
            pass
        time.sleep(max(0.0, 1 / per_second - (time.monotonic() - began)))


def main(verb, *rest):
    if verb == "serve":
        errors = float(rest[3]) if rest[2:3] == ("--errors",) else 0.0
        serve(int(rest[0]), rest[1], errors)
    elif verb == "visit":
        visit(rest[0], float(rest[1]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(*(sys.argv[1:] or ["help"]))
    except (IndexError, ValueError):
        sys.exit(__doc__)
    except KeyboardInterrupt:
        pass
