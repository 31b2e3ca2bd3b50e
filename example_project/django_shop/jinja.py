"""Makes Jinja, and the pages both shops share, usable from Django."""

from django.conf import settings
from jinja2 import Environment
from shop.api import has_password_hash
from shop.scenarios import SCENARIOS


def environment(**options):
    env = Environment(**options)
    env.globals.update(
        shop="Django",
        backend=settings.SHOP_BACKEND,
        scenarios=SCENARIOS,
        has_password_hash=has_password_hash,
    )
    return env
