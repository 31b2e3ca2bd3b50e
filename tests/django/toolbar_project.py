"""A Django project with django-debug-toolbar, served until it is terminated.

python -m tests.django.toolbar_project wsgi|asgi REDIS_URL
"""

from __future__ import annotations

import sys

from django.conf import settings

MIDDLEWARE = [
    "contextcache_django.middleware.ContextCacheMiddleware",
    "debug_toolbar.middleware.DebugToolbarMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
]


def configure(redis_url: str) -> None:
    settings.configure(
        DEBUG=True,
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["127.0.0.1"],
        INTERNAL_IPS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        STATIC_URL="/static/",
        INSTALLED_APPS=[
            "django.contrib.sessions",
            "django.contrib.staticfiles",
            "debug_toolbar",
            "contextcache_django",
        ],
        MIDDLEWARE=MIDDLEWARE,
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
        CACHES={
            "default": {
                "BACKEND": "contextcache_django.cache.RedisCache",
                "LOCATION": redis_url,
            }
        },
        CONTEXTCACHE={"TIMEOUT": 10},  # it is about what is shown, not about a busy machine
        SESSION_ENGINE="contextcache_django.sessions",
        DEBUG_TOOLBAR_CONFIG={"IS_RUNNING_TESTS": False},
        DEBUG_TOOLBAR_PANELS=[
            "debug_toolbar.panels.history.HistoryPanel",
            "contextcache_django.panels.ContextCachePanel",
        ],
    )
    import django

    django.setup()


def shop(request):
    from django.core.cache import cache
    from django.http import HttpResponse

    from tests.django.shop import dirty_cart, generator

    request.session["cart"] = dirty_cart()
    cache.set("user:7", dirty_cart())
    cache.set("<img src=x onerror=document.title='taken'>", "text")
    cache.set("numbers", generator())
    return HttpResponse("<title>shop</title><body>a shop</body>")


def clean(request):
    from django.http import HttpResponse

    return HttpResponse("<title>clean</title><body>nothing</body>")


async def shop_async(request):
    from django.core.cache import cache
    from django.http import HttpResponse

    from tests.django.shop import dirty_cart

    await cache.aset("user:7", dirty_cart())
    return HttpResponse("<title>shop</title><body>a shop</body>")


def urls():
    from debug_toolbar.toolbar import debug_toolbar_urls
    from django.urls import path

    return [
        path("", shop),
        path("clean", clean),
        path("async", shop_async),
        *debug_toolbar_urls(),
    ]


def serve(how: str, redis_url: str) -> None:
    configure(redis_url)
    global urlpatterns
    urlpatterns = urls()
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler, StaticFilesHandler
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    if how == "wsgi":
        from werkzeug.serving import make_server

        server = make_server("127.0.0.1", 0, StaticFilesHandler(get_wsgi_application()), True)
        print(f"http://127.0.0.1:{server.port}/", flush=True)
        server.serve_forever()
    else:
        import socket

        import uvicorn

        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # before anybody is told
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
        app = ASGIStaticFilesHandler(get_asgi_application())
        config = uvicorn.Config(app, log_level="warning", lifespan="off")
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    sys.modules["tests.django.toolbar_project"] = sys.modules["__main__"]
    __name__ = "tests.django.toolbar_project"
    serve(*sys.argv[1:])
