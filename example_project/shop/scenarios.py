"""The scenarios of the example: one bad habit each, and what must become of it on each backend.

`demo.py` performs them. An outcome that differs from the one declared here is a failure.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What one backend does with a scenario.

    Attributes:
        write: HTTP status of the writing request.
        said: What the server's log says about it: the lines of contextcache, or the last line
            of a traceback; `…` stands for any text, such as what differs between versions of
            Python. Nothing said is a fact too.
        read: HTTP status of the reading request.
        came_back: What that page shows as come back.
    """

    write: int
    said: tuple[str, ...]
    read: int
    came_back: str


@dataclass(frozen=True)
class Scenario:
    """One page of the shop with a habit in it.

    Attributes:
        slug: The page's address, and the name of its view in both shops.
        title: What the page does, in a few words.
        habit: The habit in one sentence.
        reports: The public report the habit comes from, by framework.
        button: Label of what performs it in a browser.
        outcomes: What must happen, by framework and backend.
        writes_with: Method of the request that writes.
    """

    slug: str
    title: str
    habit: str
    reports: dict[str, str]
    button: str
    outcomes: dict[tuple[str, str], Outcome]
    writes_with: str = "POST"


_ALL = (
    Scenario(
        slug="cart",
        title="A cart that holds an API client",
        habit="The cart goes into the session; its lines keep the client that knows the prices, "
        "and the client has a lock and a threading.local.",
        reports={
            "Django": "braintree/braintree_python#168",
            "Flask": "pallets-eco/flask-session#180",
        },
        button="Add a desk lamp",
        outcomes={
            ("Django", "stock"): Outcome(
                write=500,
                said=("TypeError: cannot pickle '_thread.lock' object",),
                read=200,
                came_back="an empty cart",
            ),
            ("Django", "contextcache"): Outcome(
                write=302,
                said=(
                    "contextcache CC102: session['cart'].items[0].client._lock (_thread.lock) …",
                ),
                read=200,
                came_back="1 line, 39.00 €; its client answers",
            ),
            ("Flask", "stock"): Outcome(
                write=500,
                said=("TypeError: Encoding objects of type Client is unsupported",),
                read=200,
                came_back="an empty cart",
            ),
            ("Flask", "contextcache"): Outcome(
                write=302,
                said=(
                    "contextcache CC102: session['cart'].items[0].client._lock (_thread.lock) …",
                ),
                read=200,
                came_back="1 line, 39.00 €; its client answers",
            ),
        },
    ),
    Scenario(
        slug="profile",
        title="The signed-in user in the cache",
        habit="The cached profile holds the user as the request has it: request.user in Django, "
        "current_user in Flask.",
        reports={
            "Django": "codeinthehole/django-cacheback#58",
            "Flask": "maxcountryman/flask-login#9",
        },
        button="Cache my profile",
        outcomes={
            ("Django", "stock"): Outcome(
                write=302,
                said=(),
                read=200,
                came_back="user ada with the password hash",
            ),
            ("Django", "contextcache"): Outcome(
                write=302,
                said=("contextcache CC105: cache['profile:1']['user'] (…SimpleLazyObject) …",),
                read=200,
                came_back="user ada without the password hash",
            ),
            ("Flask", "stock"): Outcome(
                write=500,
                said=("PicklingError: …arg…__newobj__…",),
                read=200,
                came_back="nothing",
            ),
            ("Flask", "contextcache"): Outcome(
                write=302,
                said=("contextcache CC104: cache['profile:1']['user'] (…LocalProxy) …",),
                read=200,
                came_back="user ada without the password hash",
            ),
        },
    ),
    Scenario(
        slug="social",
        title="The request itself in the session",
        habit="A sign-in at another service is kept in the session until the visitor comes back, "
        "and it holds the request it began with.",
        reports={
            "Django": "flashingpumpkin/django-socialregistration#73",
            "Flask": "flashingpumpkin/django-socialregistration#73",
        },
        button="Sign in at example.org",
        outcomes={
            ("Django", "stock"): Outcome(
                write=500,
                said=("TypeError: cannot pickle '…BufferedReader' …",),
                read=200,
                came_back="nothing",
            ),
            ("Django", "contextcache"): Outcome(
                write=302,
                said=("contextcache CC106: session['social_client'].request (…WSGIRequest) …",),
                read=200,
                came_back="POST /social/, without its cookies",
            ),
            ("Flask", "stock"): Outcome(
                write=500,
                said=("TypeError: Encoding objects of type SocialSignIn is unsupported",),
                read=200,
                came_back="nothing",
            ),
            ("Flask", "contextcache"): Outcome(
                write=302,
                said=("contextcache CC106: session['social_client'].request (flask…Request) …",),
                read=200,
                came_back="POST /social/, without its cookies",
            ),
        },
    ),
    Scenario(
        slug="wishlist",
        title="A proxy in the session",
        habit="session['owner'] is set to what stands for the user during a request: a "
        "SimpleLazyObject in Django, a LocalProxy in Flask.",
        reports={"Django": "django/django#5276", "Flask": "omab/python-social-auth#257"},
        button="Make it mine",
        outcomes={
            ("Django", "stock"): Outcome(
                write=302,
                said=(),
                read=200,
                came_back="owner ada with the password hash",
            ),
            ("Django", "contextcache"): Outcome(
                write=302,
                said=("contextcache CC105: session['owner'] (…SimpleLazyObject) …",),
                read=200,
                came_back="owner ada without the password hash",
            ),
            ("Flask", "stock"): Outcome(
                write=500,
                said=("TypeError: Encoding objects of type LocalProxy is unsupported",),
                read=200,
                came_back="nothing",
            ),
            ("Flask", "contextcache"): Outcome(
                write=302,
                said=("contextcache CC104: session['owner'] (…LocalProxy) …",),
                read=200,
                came_back="owner ada without the password hash",
            ),
        },
    ),
    Scenario(
        slug="brochure",
        title="A cached response with a callback",
        habit="The whole response is cached, and carries a lambda to be called when it is closed.",
        reports={"Django": "pinterest/pymemcache#539", "Flask": "pallets-eco/flask-caching#366"},
        button="Open it again",
        outcomes={
            ("Django", "stock"): Outcome(
                write=500,
                said=("…Error: Can't … local object …brochure.<locals>.<lambda>…",),
                read=500,
                came_back="",
            ),
            ("Django", "contextcache"): Outcome(
                write=200,
                said=("contextcache CC123: cache['views.…']._resource_closers[0] (function) …",),
                read=200,
                came_back="printing 1",
            ),
            ("Flask", "stock"): Outcome(
                write=500,
                said=("…Error: Can't … local object …brochure.<locals>.<lambda>…",),
                read=500,
                came_back="",
            ),
            ("Flask", "contextcache"): Outcome(
                write=200,
                said=("contextcache CC123: cache['view//brochure/']._on_close[0] (function) …",),
                read=200,
                came_back="printing 1",
            ),
        },
        writes_with="GET",
    ),
    Scenario(
        slug="offers",
        title="A generator and a lambda in cached data",
        habit="The cached dict holds a generator of products and a lambda that prices them.",
        reports={
            "Django": "bogdal/sentry-youtrack#16, chr1st1ank/narrow-down#12",
            "Flask": "bogdal/sentry-youtrack#16, chr1st1ank/narrow-down#12",
        },
        button="Cache the offers",
        outcomes={
            ("Django", "stock"): Outcome(
                write=500,
                said=("TypeError: cannot pickle 'generator' object",),
                read=200,
                came_back="nothing",
            ),
            ("Django", "contextcache"): Outcome(
                write=302,
                said=(
                    "contextcache CC109: cache['offers']['products'] (generator) …",
                    "contextcache CC110: cache['offers']['price'] (function) …",
                ),
                read=200,
                came_back='heading "This week", without products, without price function',
            ),
            ("Flask", "stock"): Outcome(
                write=500,
                said=("TypeError: cannot pickle 'generator' object",),
                read=200,
                came_back="nothing",
            ),
            ("Flask", "contextcache"): Outcome(
                write=302,
                said=(
                    "contextcache CC109: cache['offers']['products'] (generator) …",
                    "contextcache CC110: cache['offers']['price'] (function) …",
                ),
                read=200,
                came_back='heading "This week", without products, without price function',
            ),
        },
    ),
)

SCENARIOS = {scenario.slug: scenario for scenario in _ALL}
