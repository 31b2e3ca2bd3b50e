"""The settings of a small project that uses everything contextcache has for Django."""

from __future__ import annotations

SECRET_KEY = "only for tests"  # tests.sealing knows it
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
USE_TZ = True
ROOT_URLCONF = "tests.django.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "contextcache_django",
]
MIDDLEWARE = [
    "contextcache_django.middleware.ContextCacheMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    for name in ("default", "archive")
}
CACHES = {"default": {"BACKEND": "contextcache_django.cache.RedisCache"}}
SESSION_ENGINE = "contextcache_django.sessions"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
