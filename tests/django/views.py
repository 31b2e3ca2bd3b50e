"""Views with the habits the guard is there for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.contrib.auth import alogin, login, logout
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from tests.django.shop import Client, dirty_cart

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


def cache_client(request: HttpRequest) -> HttpResponse:
    cache.set("client", Client())
    return HttpResponse("stored")


def cache_user(request: HttpRequest) -> HttpResponse:
    cache.set("user", {"who": request.user})
    return HttpResponse(request.user.get_username())


def add_to_cart(request: HttpRequest) -> HttpResponse:
    request.session["cart"] = dirty_cart()
    return HttpResponse("added")


def show_session(request: HttpRequest) -> HttpResponse:
    cart = request.session.get("cart")
    return JsonResponse(
        {
            "keys": sorted(request.session.keys()),
            "items": [item.name for item in cart.items] if cart else [],
            "locked": cart.items[1].client._lock.locked() if cart else None,
            "user": request.user.get_username(),
        }
    )


def log_in(request: HttpRequest) -> HttpResponse:
    login(request, User.objects.get())
    return HttpResponse("welcome")


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("bye")


def set_key(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def traced(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


@never_cache
@traced
def decorated(request: HttpRequest) -> HttpResponse:
    cache.set("client", Client())
    return HttpResponse("stored")


def with_suffix(request: HttpRequest, suffix: str) -> HttpResponse:
    cache.set(f"client{suffix}", Client())
    return HttpResponse("stored")


class CartView(View):
    def put(self, request: HttpRequest) -> HttpResponse:
        cache.set("client", Client())
        return HttpResponse("stored")


class Inherited(TemplateView):
    pass


class Called:
    def __call__(self, request: HttpRequest) -> HttpResponse:
        cache.set("client", Client())
        return HttpResponse("stored")

    def method(self, request: HttpRequest) -> HttpResponse:
        cache.set("client", Client())
        return HttpResponse("stored")


# --- Async --------------------------------------------------------------------------------------

both_arrived: asyncio.Barrier | None = None


async def _meet() -> None:
    if both_arrived is not None:
        await both_arrived.wait()


async def async_one(request: HttpRequest) -> HttpResponse:
    await _meet()
    await cache.aset("one", Client())
    return HttpResponse("one")


async def async_two(request: HttpRequest) -> HttpResponse:
    await _meet()
    await cache.aset("two", Client())
    return HttpResponse("two")


async def async_in_thread(request: HttpRequest) -> HttpResponse:
    await sync_to_async(cache.set)("client", Client())
    return HttpResponse("stored")


async def async_session(request: HttpRequest) -> HttpResponse:
    await request.session.aset("cart", dirty_cart())
    return HttpResponse("added")


async def async_show(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"keys": sorted(await request.session.akeys())})


async def async_log_in(request: HttpRequest) -> HttpResponse:
    await alogin(request, await User.objects.aget())
    return HttpResponse("welcome")
