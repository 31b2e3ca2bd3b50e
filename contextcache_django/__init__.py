"""contextcache for Django.

=======================================================  ====================================
`contextcache_django`                                    `INSTALLED_APPS`
`contextcache_django.middleware.ContextCacheMiddleware`  `MIDDLEWARE`, as its first line
`contextcache_django.cache.RedisCache`                   `CACHES[...]["BACKEND"]`
`contextcache_django.sessions`                           `SESSION_ENGINE`
`contextcache_django.serializers.CacheSerializer`        `OPTIONS["serializer"]` of Django's
                                                         own Redis backend
`contextcache_django.serializers.DjangoRedisSerializer`  `OPTIONS["SERIALIZER"]` of django-redis
`contextcache_django.serializers.SessionSerializer`      `SESSION_SERIALIZER`
`contextcache_django.panels.ContextCachePanel`           `DEBUG_TOOLBAR_PANELS`
`contextcache_django.by_reference`                       `CONTEXTCACHE["RULES"]`, for models
=======================================================  ====================================

Each works without the others. One setting, `CONTEXTCACHE`, configures all of them.
"""

from contextcache_django.references import by_reference

__all__ = ["by_reference"]
