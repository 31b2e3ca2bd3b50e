"""Perform every scenario of the example shops, stock and with contextcache, side by side.

Each framework runs on each backend in processes of its own. A scenario is performed as a browser
would: one request writes, a later one reads in another thread (embedded) or process (REDIS_URL).
Exits with 0 only if everything happened as `shop/scenarios.py` declares.
"""

from __future__ import annotations

import html
import os
import re
import secrets
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.cookiejar import CookieJar
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    ProxyHandler,
    Request,
    build_opener,
)

from shop.api import PASSWORD, USERNAME
from shop.backend import BACKENDS, EMBEDDED
from shop.scenarios import SCENARIOS, Outcome, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HERE = Path(__file__).resolve().parent
FRAMEWORKS = ("Django", "Flask")
PAIRS = [(framework, backend) for framework in FRAMEWORKS for backend in BACKENDS]
ON_EMBEDDED = os.environ.get("REDIS_URL", EMBEDDED).startswith(EMBEDDED)
WIDTH, LABEL, COLUMN = 100, 15, 41
NOTHING = "-"


class Visitor:
    """A browser with cookies, and without patience for redirects."""

    def __init__(self) -> None:
        self.cookies = CookieJar()
        self._opener = build_opener(
            HTTPCookieProcessor(self.cookies),
            ProxyHandler({}),  # a proxy has no way to this machine's loopback
            _StayHere(),
        )

    def send(self, method: str, url: str, **form: str) -> tuple[int, str]:
        """Return the status and the text that answer the request."""
        token = next((cookie.value for cookie in self.cookies if cookie.name == "csrftoken"), "")
        data = urlencode(form).encode() if method == "POST" else None
        headers = {"Host": "127.0.0.1", "X-CSRFToken": token}  # one host, however many processes
        request = Request(url, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error as answer:
                return answer.code, answer.read().decode()

    def sign_in(self, shop: str) -> bool:
        """Sign in as the shop's one customer; tell whether that succeeded."""
        page = urljoin(shop, "login/")
        self.send("GET", page)  # for Django's CSRF cookie
        return self.send("POST", page, username=USERNAME, password=PASSWORD)[0] == HTTPStatus.FOUND


class _StayHere(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@contextmanager
def running_shop(framework: str, backend: str, folder: Path) -> Iterator[tuple[list[str], Path]]:
    """Start a shop; yield the URLs of its processes and the file that has what they log."""
    log = folder / f"{framework}-{backend}.log"
    environment = os.environ | {
        "PYTHONUTF8": "1",
        "SHOP_BACKEND": backend,
        "SHOP_DATABASE": str(folder / f"{framework}-{backend}.sqlite3"),
        "SHOP_PREFIX": f"{framework}-{backend}-{secrets.token_hex(4)}",
    }
    command = [sys.executable, str(HERE / "serve.py"), framework.lower()]
    with ExitStack() as stack:
        stderr = stack.enter_context(log.open("ab"))
        urls = []
        for _ in range(1 if ON_EMBEDDED else 2):
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
            stack.enter_context(process)  # closes its pipe and waits for its end
            stack.callback(process.terminate)
            greeting = process.stdout.readline()
            if not greeting:
                raise SystemExit(f"the {framework} shop did not start:\n{log.read_text('utf-8')}")
            urls.append(greeting.split()[-1])
        yield urls, log


def perform(scenario: Scenario, urls: list[str], log: Path) -> Outcome:
    """Write in the first process of a shop and read in its last, as a new visitor."""
    visitor = Visitor()
    if not visitor.sign_in(urls[0]):
        reasons = said(log.read_text("utf-8"))
        raise SystemExit("\n".join([f"signing in at {urls[0]} failed:", *reasons]))
    already_said = log.stat().st_size
    write, _ = visitor.send(scenario.writes_with, urljoin(urls[0], f"{scenario.slug}/"))
    read, page = visitor.send("GET", urljoin(urls[-1], f"{scenario.slug}/"))
    output = re.search(r"<output>(.*?)</output>", page, re.DOTALL)
    return Outcome(
        write=write,
        said=tuple(said(log.read_bytes()[already_said:].decode())),
        read=read,
        came_back=html.unescape(output[1]).strip() if output else "",
    )


def said(log: str) -> list[str]:
    """Return the first lines of contextcache's blocks, and what the last traceback ends with."""
    ours = re.findall(r"^.*?(contextcache CC\d+: .+)$", log, re.MULTILINE)
    errors = re.findall(r"^(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Exception): .+)$", log, re.MULTILINE)
    return ours + errors[-1:]


def perform_all(
    framework: str, backend: str, scenarios: Iterable[Scenario], folder: Path
) -> list[Outcome]:
    """Perform the scenarios one after the other on one shop."""
    with running_shop(framework, backend, folder) as (urls, log):
        return [perform(scenario, urls, log) for scenario in scenarios]


# Telling


def agrees(declared: Outcome, happened: Outcome) -> bool:
    """Tell whether what happened is what was declared, where `…` stands for any text."""
    said = re.escape("\n".join(declared.said)).replace("…", ".*")
    return re.fullmatch(said, "\n".join(happened.said)) is not None and (
        (declared.write, declared.read, declared.came_back)
        == (happened.write, happened.read, happened.came_back)
    )


def beside(label: str, left: str, right: str) -> Iterator[str]:
    """Lay out two texts side by side after a label."""
    columns = [textwrap.wrap(text, COLUMN, break_on_hyphens=False) for text in (left, right)]
    for one, other in zip_longest(*columns, fillvalue=""):
        yield f"{label:<{LABEL}}{one:<{COLUMN}}  {other}".rstrip()
        label = ""


def status(code: int) -> str:
    """Spell a status out."""
    return f"{code} {HTTPStatus(code).phrase}"


def compare(stock: Outcome, ours: Outcome) -> Iterator[str]:
    """Describe what both backends made of a scenario."""
    yield from beside("   write", status(stock.write), status(ours.write))
    label = "   log"
    for one, other in zip_longest(stock.said or [NOTHING], ours.said or [NOTHING], fillvalue=""):
        yield from beside(label, one, other)
        label = ""
    yield from beside("   read", status(stock.read), status(ours.read))
    yield from beside("   came back", stock.came_back or NOTHING, ours.came_back or NOTHING)


def sum_up(outcomes: dict[tuple[str, str], list[Outcome]]) -> Iterator[str]:
    """Count what became of all writes, for who reads only the end."""
    fates = ("failed", "stored without a word", "stored, and the field named")
    writes = sum(map(len, outcomes.values())) // len(BACKENDS)
    yield f"{f'Of {writes} writes':<{LABEL}}" + "".join(
        f"{fate:>{len(fate) + 3}}" for fate in fates
    )
    for backend in BACKENDS:
        own = [one for pair, several in outcomes.items() if pair[1] == backend for one in several]
        failed = sum(one.write >= HTTPStatus.INTERNAL_SERVER_ERROR for one in own)
        named = sum("contextcache" in "".join(one.said) for one in own)
        counts = zip(fates, (failed, len(own) - failed - named, named), strict=True)
        yield f"{backend:<{LABEL}}" + "".join(f"{count:>{len(fate) + 3}}" for fate, count in counts)


def colour(code: int, text: str) -> str:
    """Colour `text` where a person is looking."""
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def introduce() -> None:
    """Say what is compared, and on what."""
    reader = "thread, on the embedded fakeredis" if ON_EMBEDDED else "process, on REDIS_URL"
    stock = {
        name: f"{name} {version(name)}" for name in ("Django", "Flask-Caching", "Flask-Session")
    }
    print(f"One request writes, the next one reads in another {reader}.")
    print(f"stock is {stock['Django']} with its RedisCache and cached sessions, and Flask with")
    print(f"{stock['Flask-Caching']} (RedisCache) and {stock['Flask-Session']} (redis).")


def main(scenarios: Sequence[Scenario] = tuple(SCENARIOS.values())) -> int:
    """Perform `scenarios`, tell what happened and return the exit status."""
    started = time.monotonic()
    introduce()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(len(PAIRS)) as pool:
        performances = pool.map(lambda pair: perform_all(*pair, scenarios, Path(folder)), PAIRS)
        outcomes = dict(zip(PAIRS, performances, strict=True))

    otherwise = 0
    for number, scenario in enumerate(scenarios):
        print(f"\n{colour(1, f'{number + 1}. {scenario.title}')}")
        print(textwrap.fill(scenario.habit, WIDTH, initial_indent="   ", subsequent_indent="   "))
        for framework in FRAMEWORKS:
            happened = {backend: outcomes[framework, backend][number] for backend in BACKENDS}
            print(f"\n{colour(36, next(beside(f'   {framework}', *BACKENDS)))}")
            print(*compare(*happened.values()), sep="\n")
            print(f"{'   seen in':<{LABEL}}{scenario.reports[framework]}")
            for backend in BACKENDS:
                declared = scenario.outcomes.get((framework, backend))
                if declared is None or not agrees(declared, happened[backend]):
                    otherwise += 1
                    was_to = f"was to give {declared}" if declared else "has no declared outcome"
                    print(colour(31, f"   OTHERWISE   {backend} {was_to}"))

    heading, *rows = sum_up(outcomes)
    print(f"\n{colour(1, heading)}", *rows, sep="\n")
    total, seconds = len(PAIRS) * len(scenarios), time.monotonic() - started
    print(f"\n{total - otherwise} of {total} outcomes are as declared, after {seconds:.1f} s.")
    print("See it in a browser: make serve")
    return 1 if otherwise else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal may know no euro sign
    sys.exit(main())
