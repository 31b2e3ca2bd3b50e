"""The Django application: it registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register


class ContextCacheConfig(AppConfig):
    """What `contextcache_django` in `INSTALLED_APPS` stands for."""

    name = "contextcache_django"
    label = "contextcache"
    verbose_name = "contextcache"

    def ready(self) -> None:
        """Register the checks of the settings."""
        from contextcache_django import checks  # noqa: PLC0415  models may not be ready earlier

        register(checks.check_settings, Tags.caches)
        register(checks.check_coverage, Tags.caches)
        register(checks.check_deployment, Tags.caches, deploy=True)
