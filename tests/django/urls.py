"""The URLs of the test project."""

from __future__ import annotations

import functools

from django.urls import path

from tests.django import views

urlpatterns = [
    path("plain", views.plain),
    path("cache-client", views.cache_client),
    path("cache-user", views.cache_user),
    path("cart", views.add_to_cart),
    path("session", views.show_session),
    path("login", views.log_in),
    path("logout", views.log_out),
    path("visit", views.set_key),
    path("decorated", views.decorated),
    path("partial", functools.partial(views.with_suffix, suffix="!")),
    path("class", views.CartView.as_view()),
    path("inherited", views.Inherited.as_view()),
    path("called", views.Called()),
    path("method", views.Called().method),
    path("async/one", views.async_one),
    path("async/two", views.async_two),
    path("async/thread", views.async_in_thread),
    path("async/cart", views.async_session),
    path("async/session", views.async_show),
    path("async/login", views.async_log_in),
]
