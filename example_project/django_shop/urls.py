"""The addresses of the Django shop, the same as in the Flask shop."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from django_shop import views

urlpatterns = [
    path("", views.index),
    path("login/", LoginView.as_view(template_name="login.html")),
    path("logout/", LogoutView.as_view(next_page="/")),
    path("products/", views.products),
    path("cart/", views.cart),
    path("profile/", views.profile),
    path("social/", views.social),
    path("wishlist/", views.wishlist),
    path("brochure/", views.brochure),
    path("offers/", views.offers),
    path("happened/<slug:slug>/", views.happened),
]
