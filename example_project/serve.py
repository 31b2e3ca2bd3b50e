"""Serve the example shops on this machine.

python serve.py                    both, until Ctrl-C
python serve.py django --port 0    one, on a free port
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from shop.backend import chosen_backend
from werkzeug.serving import WSGIRequestHandler, make_server

PORTS = {"django": 8001, "flask": 8002}


class QuietHandler(WSGIRequestHandler):
    """Leaves the terminal to what the shops have to say."""

    def log_request(self, code="-", size="-"):
        pass


def django_shop():
    os.environ["DJANGO_SETTINGS_MODULE"] = "django_shop.settings"  # whatever the shell exports
    from django.core.management import call_command
    from django_shop.wsgi import application

    call_command("migrate", verbosity=0)
    return application


def flask_shop():
    from flask_shop.app import app

    return app


def serve(framework: str, port: int) -> None:
    """Serve one shop, each request in a thread of its own."""
    application = {"django": django_shop, "flask": flask_shop}[framework]()
    server = make_server(
        "127.0.0.1", port, application, threaded=True, request_handler=QuietHandler
    )
    print(f"{framework:<8}http://127.0.0.1:{server.port}/", flush=True)
    server.serve_forever()


def serve_both() -> None:
    """Serve both shops, each in a process of its own, and end both together."""
    where = "REDIS_URL" if "REDIS_URL" in os.environ else "the embedded fakeredis"
    print(f"On {chosen_backend()} and {where}. Ctrl-C ends both.", flush=True)
    with TemporaryDirectory() as folder:
        environment = os.environ | {"SHOP_DATABASE": str(Path(folder, "shop.sqlite3"))}
        shops = []
        try:
            for framework, port in PORTS.items():
                command = [sys.executable, __file__, framework, "--port", str(port)]
                shops.append(subprocess.Popen(command, env=environment))
            for shop in shops:
                shop.wait()
        finally:
            for shop in shops:
                shop.terminate()
                shop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", nargs="?", choices=PORTS)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's `&` lets it be ignored
        signal.signal(ending, signal.default_int_handler)
    try:
        if options.framework:
            serve(options.framework, options.port)
        else:
            serve_both()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
