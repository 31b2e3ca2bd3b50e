"""The demo is a promise of the README: it runs, and it notices when something else happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "example_project"

TITLES = [
    "1. A cart that holds an API client",
    "2. The signed-in user in the cache",
    "3. The request itself in the session",
    "4. A proxy in the session",
    "5. A cached response with a callback",
    "6. A generator and a lambda in cached data",
]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the example project, as a user of it would."""
    inherited = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLE,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )


def run_with(change: str) -> subprocess.CompletedProcess[str]:
    """Run the demo on the cart alone, after `change` to the scenario `cart`."""
    return run(
        "-c",
        "import sys, dataclasses, demo\n"
        "cart = demo.SCENARIOS['cart']\n"
        f"{change}\n"
        "sys.exit(demo.main([cart]))",
    )


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    return run("demo.py")


def test_demo_succeeds(demo):
    """Every scenario does what it is declared to do, on both frameworks and both backends."""
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "\n24 of 24 outcomes are as declared, after " in demo.stdout
    assert "OTHERWISE" not in demo.stdout
    assert demo.stderr == ""


def test_demo_shows_every_scenario_in_both_frameworks(demo):
    """Each scenario has a title, both frameworks below it, and what each backend did."""
    lines = demo.stdout.splitlines()
    starts = [lines.index(title) for title in TITLES]
    assert starts == sorted(starts)
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        section = lines[start:end]
        for framework in ("Django", "Flask"):
            assert section.count(f"   {framework:<12}{'stock':<43}contextcache") == 1
        for label in ("write", "log", "read", "came back", "seen in"):
            assert sum(line.startswith(f"   {label:<12}") for line in section) >= 2


def test_demo_fits_a_terminal_and_is_plain_in_a_pipe(demo):
    """No line is longer than 100 columns, and there are no colour codes where nobody looks."""
    assert max(map(len, demo.stdout.splitlines())) <= 100
    assert "\x1b" not in demo.stdout


def test_demo_ends_by_saying_how_to_see_it_in_a_browser(demo):
    """The last line is the next step."""
    assert demo.stdout.splitlines()[-1] == "See it in a browser: make serve"


def test_demo_sums_up_for_who_reads_only_the_end(demo):
    """What the stock backends lost, and what they kept without a word."""
    lines = demo.stdout.splitlines()
    assert [line.split() for line in lines[-5:-3]] == [
        ["stock", "10", "2", "0"],
        ["contextcache", "0", "0", "12"],
    ]
    assert lines[-6] == (
        "Of 12 writes      failed   stored without a word   stored, and the field named"
    )


def test_demo_reads_in_another_process_on_a_real_redis(redis_url):
    """With REDIS_URL the same happens between two processes of each shop."""
    demo = run("demo.py", REDIS_URL=f"{redis_url}?socket_timeout=10")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "in another process, on REDIS_URL" in demo.stdout
    assert "\n24 of 24 outcomes are as declared, after " in demo.stdout


def test_demo_fails_where_a_scenario_does_something_else():
    """Any part of an outcome that is not as declared fails the demo, and is named."""
    demo = run_with(
        "changes = [\n"
        "    {'write': 404}, {'said': ('contextcache CC999: …',)},\n"
        "    {'read': 404}, {'came_back': 'an empty cart'},\n"
        "]\n"
        "cart = dataclasses.replace(cart, outcomes={\n"
        "    pair: dataclasses.replace(cart.outcomes[pair], **change)\n"
        "    for pair, change in zip(demo.PAIRS, changes, strict=True)\n"
        "})"
    )
    assert demo.returncode == 1
    told = [line for line in demo.stdout.splitlines() if "OTHERWISE" in line]
    changes = ["write=404", "said=('contextcache CC999: …',)", "read=404", "came_back='an empty"]
    for line, backend, change in zip(told, ["stock", "contextcache"] * 2, changes, strict=True):
        assert line.startswith(f"   OTHERWISE   {backend} was to give Outcome(")
        assert change in line
    assert "\n0 of 4 outcomes are as declared, after " in demo.stdout


def test_demo_fails_where_an_outcome_is_not_declared():
    """A scenario without a declaration cannot pass unnoticed, and is the only one named."""
    demo = run_with(
        "pair = ('Django', 'contextcache')\n"
        "kept = {one: cart.outcomes[one] for one in demo.PAIRS if one != pair}\n"
        "cart = dataclasses.replace(cart, outcomes=kept)"
    )
    assert demo.returncode == 1
    assert demo.stdout.count("OTHERWISE") == 1
    assert "   OTHERWISE   contextcache has no declared outcome" in demo.stdout
    assert "\n3 of 4 outcomes are as declared, after " in demo.stdout


def test_demo_says_why_a_shop_does_not_start():
    """A shop that does not start ends the demo with the reason, not with a hang."""
    demo = run_with("demo.HERE = demo.HERE / 'nowhere'")
    assert demo.returncode == 1
    assert demo.stderr.startswith("the Django shop did not start:\n")
    assert "nowhere/serve.py" in demo.stderr


def test_demo_says_what_is_wrong_with_a_redis():
    """A Redis that is not there ends the demo with the error of the shop that missed it."""
    demo = run("demo.py", REDIS_URL="redis://127.0.0.1:1/0")
    assert demo.returncode == 1
    assert demo.stderr.startswith("signing in at http://127.0.0.1:")
    assert "127.0.0.1:1" in demo.stderr.splitlines()[-1]


def test_shop_refuses_an_unknown_backend():
    """SHOP_BACKEND with a typo names what there is."""
    serve = run("serve.py", "flask", SHOP_BACKEND="stok")
    assert serve.returncode == 1
    assert serve.stderr == "SHOP_BACKEND is 'stok'; choose one of: stock, contextcache\n"


@pytest.mark.parametrize("framework", ["Django", "Flask"])
def test_pages_tell_what_happened(framework):
    """The index links every scenario; each page has a panel with the findings and the code."""
    shop = run(
        "-c",
        "import tempfile, demo\n"
        "from pathlib import Path\n"
        "visitor = demo.Visitor()\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        f"    with demo.running_shop('{framework}', 'contextcache', Path(folder)) as (urls, _):\n"
        "        visitor.sign_in(urls[0])\n"
        "        visitor.send('POST', urls[0] + 'offers/')\n"
        "        for page in ('', 'products/', 'offers/', 'happened/offers/', 'happened/cart/'):\n"
        "            print(*visitor.send('GET', urls[0] + page), '=====')\n",
    )
    assert shop.returncode == 0, shop.stderr
    index, products, offers, happened, nothing, _ = shop.stdout.split("=====\n")
    for page in (index, products, offers, happened, nothing):
        assert page.startswith("200 <!doctype html>")
    for slug in ("cart", "profile", "social", "wishlist", "brochure", "offers"):
        assert f'<a href="/{slug}/">' in index
    assert "Desk lamp" in products
    assert '<iframe src="/happened/offers/"' in offers
    assert "<b>CC109</b>" in happened
    assert "<b>CC110</b>" in happened
    assert "bogdal/sentry-youtrack#16" in happened
    assert "def offers(" in happened
    assert "<b>CC" not in nothing
