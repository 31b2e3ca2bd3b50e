"""The pages of the Django shop.

Each habit is marked with the public report of a project that had it.
"""

import inspect
from itertools import count
from time import perf_counter

from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_page
from shop.api import CATALOGUE, Cart, Client, SocialSignIn
from shop.notebook import last_error, last_findings
from shop.scenarios import SCENARIOS

printing = count(1)
sending_times = []


def index(request):
    return render(request, "index.html")


def products(request):
    return render(request, "products.html", {"products": CATALOGUE.values()})


def cart(request):
    if request.method == "POST":
        cart = request.session.get("cart") or Cart()
        # braintree/braintree_python#168: objects that keep their client, with its thread-local
        cart.add(request.POST.get("sku", "lamp"), Client(request.user.get_username()))
        request.session["cart"] = cart
        return redirect("/cart/")
    return render(request, "cart.html", {"cart": request.session.get("cart")})


@login_required
def profile(request):
    key = f"profile:{request.user.pk}"
    if request.method == "POST":
        # codeinthehole/django-cacheback#58: request.user goes to the cache with the data
        cache.set(key, {"user": request.user, "orders": 3})
        return redirect("/profile/")
    return render(request, "profile.html", {"profile": cache.get(key)})


def social(request):
    if request.method == "POST":
        # flashingpumpkin/django-socialregistration#73: the client in the session has the request
        request.session["social_client"] = SocialSignIn("example.org", request)
        return redirect("/social/")
    return render(request, "social.html", {"client": request.session.get("social_client")})


@login_required
def wishlist(request):
    if request.method == "POST":
        # django/django#5276: request.user is a lazy object, and pickles as the user behind it
        request.session["owner"] = request.user
        return redirect("/wishlist/")
    return render(request, "wishlist.html", {"owner": request.session.get("owner")})


@cache_page(60)
def brochure(request):
    started = perf_counter()
    facts = {"products": CATALOGUE.values(), "printing": next(printing)}
    response = render(request, "brochure.html", facts)
    # pinterest/pymemcache#539: cache_page meets a lambda that only this one response has
    response._resource_closers.append(lambda: sending_times.append(perf_counter() - started))
    return response


def offers(request):
    if request.method == "POST":
        affordable = (product for product in CATALOGUE.values() if product.price < 40)
        # bogdal/sentry-youtrack#16: a generator among the cached data
        # chr1st1ank/narrow-down#12: and a lambda
        cache.set(
            "offers",
            {
                "heading": "This week",
                "products": affordable,
                "price": lambda product: f"{product.price * 9 / 10:.2f}",
            },
        )
        return redirect("/offers/")
    return render(request, "offers.html", {"offers": cache.get("offers")})


def happened(request, slug):
    facts = {
        "scenario": SCENARIOS[slug],
        "error": last_error(f"/{slug}/"),
        "findings": last_findings(f"/{slug}/"),
        "code": inspect.getsource(inspect.unwrap(globals()[slug])),
    }
    return render(request, "happened.html", facts)
