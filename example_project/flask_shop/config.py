"""Configuration of the Flask shop: ordinary, with one switch between two backends."""

import os

import redis
from shop.backend import chosen_backend, redis_url

DEBUG = True
PROPAGATE_EXCEPTIONS = False  # an error is logged, then answered, as in production
SECRET_KEY = "only-for-this-example"

SHOP_BACKEND = chosen_backend()
CACHE_KEY_PREFIX = os.environ.get("SHOP_PREFIX", "shop")

if SHOP_BACKEND == "contextcache":
    CONTEXTCACHE_REDIS_URL = redis_url(SHOP_BACKEND)
    CONTEXTCACHE_SESSION = True
    CACHE_TYPE = "contextcache_flask.RedisCache"
else:
    CACHE_TYPE = "RedisCache"
    CACHE_REDIS_URL = redis_url(SHOP_BACKEND)
    SESSION_TYPE = "redis"
    SESSION_REDIS = redis.Redis.from_url(CACHE_REDIS_URL)
