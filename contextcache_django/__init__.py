"""contextcache for Django.

=======================================================  =======================================
`contextcache_django`                                    `INSTALLED_APPS`
`contextcache_django.middleware.ContextCacheMiddleware`  `MIDDLEWARE`, as its first line
`contextcache_django.cache.RedisCache`                   `CACHES[...]["BACKEND"]`
`contextcache_django.cache.GuardedCache`                 the same, around any other backend
`contextcache_django.sessions`                           `SESSION_ENGINE`
`contextcache_django.cached_db`                          `SESSION_ENGINE`, in the database
`contextcache_django.serializers.CacheSerializer`        `OPTIONS["serializer"]` of Django's
                                                         own Redis backend
`contextcache_django.serializers.DjangoRedisSerializer`  `OPTIONS["SERIALIZER"]` of django-redis
`contextcache_django.serializers.SessionSerializer`      `SESSION_SERIALIZER`, as pickle
`contextcache_django.serializers.JSONSessionSerializer`  `SESSION_SERIALIZER`, as JSON
`contextcache_django.by_reference`                       `CONTEXTCACHE["RULES"]`, for models
`contextcache_django.panels.ContextCachePanel`           `DEBUG_TOOLBAR_PANELS`
=======================================================  =======================================

Each works without the others. One setting, `CONTEXTCACHE`, configures all of them.
"""

from contextcache_django.wire import by_reference

__all__ = ["by_reference"]
