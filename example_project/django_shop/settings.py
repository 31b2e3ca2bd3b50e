"""Settings of the Django shop: an ordinary project, with one switch between two backends."""

import os
from pathlib import Path

from shop.backend import chosen_backend, redis_url

HERE = Path(__file__).resolve().parent

DEBUG = True
SECRET_KEY = "only-for-this-example"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "django_shop.urls"
WSGI_APPLICATION = "django_shop.wsgi.application"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_shop",
]
MIDDLEWARE = [
    "django_shop.middleware.notebook_middleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.jinja2.Jinja2",
        "DIRS": [HERE.parent / "shop" / "templates"],
        "OPTIONS": {"environment": "django_shop.jinja.environment"},
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", HERE / "db.sqlite3"),
    }
}
USE_TZ = True
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"

SHOP_BACKEND = chosen_backend()
KEY_PREFIX = os.environ.get("SHOP_PREFIX", "shop")

if SHOP_BACKEND == "contextcache":
    INSTALLED_APPS.append("contextcache_django")
    MIDDLEWARE.insert(0, "contextcache_django.middleware.ContextCacheMiddleware")
    SESSION_ENGINE = "contextcache_django.sessions"
    CACHES = {
        "default": {
            "BACKEND": "contextcache_django.cache.RedisCache",
            "LOCATION": redis_url(SHOP_BACKEND),
            "KEY_PREFIX": KEY_PREFIX,
        }
    }
else:
    SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": redis_url(SHOP_BACKEND),
            "KEY_PREFIX": KEY_PREFIX,
        }
    }
