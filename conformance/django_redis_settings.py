"""Settings of django-redis's own test suite: stock, or with our serializer, on our Redis."""

from __future__ import annotations

import os

from settings.stock import *  # noqa: F403
from settings.stock import CACHES

SERIALIZER = "contextcache_django.serializers.DjangoRedisSerializer"

for _alias, _entry in CACHES.items():
    if _alias != "doesnotexist":
        _there = os.environ["CONFORMANCE_REDIS"]
        _locations = _entry["LOCATION"]
        _entry["LOCATION"] = (
            [one.replace("redis://127.0.0.1:6379", _there) for one in _locations]
            if isinstance(_locations, list)
            else _locations.replace("redis://127.0.0.1:6379", _there)
        )
    if os.environ["CONFORMANCE"] == "ours":
        _entry["OPTIONS"]["SERIALIZER"] = SERIALIZER
