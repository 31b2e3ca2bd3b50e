"""The shop itself, without any framework: its goods, carts and clients of other services."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from decimal import Decimal

USERNAME, PASSWORD = "ada", "analytical-engine"  # the one customer of the example


@dataclass(frozen=True)
class Product:
    """Something to buy; the price is in euros."""

    sku: str
    name: str
    price: Decimal


CATALOGUE = {
    product.sku: product
    for product in (
        Product("lamp", "Desk lamp", Decimal("39.00")),
        Product("notebook", "Notebook, squared", Decimal("4.20")),
        Product("pen", "Fountain pen", Decimal("24.50")),
        Product("clock", "Alarm clock", Decimal("59.90")),
    )
}


class Client:
    """Ask the price service; one client may be used from many threads."""

    def __init__(self, customer: str) -> None:
        self.customer = customer
        self._lock = threading.Lock()
        self._local = threading.local()

    def price(self, sku: str) -> Decimal:
        """Return the price of one piece, in euros, for this customer."""
        with self._lock:
            self._local.calls = self.calls + 1
            return CATALOGUE[sku].price

    @property
    def calls(self) -> int:
        """How many questions this thread has asked."""
        return getattr(self._local, "calls", 0)


@dataclass
class Line:
    """One product in a cart, and the client that knows its price today."""

    sku: str
    quantity: int
    client: Client

    @property
    def total(self) -> Decimal:
        """What the line costs, in euros."""
        return self.client.price(self.sku) * self.quantity


@dataclass
class Cart:
    """What a customer wants to buy."""

    items: list[Line] = field(default_factory=list)

    def add(self, sku: str, client: Client) -> None:
        """Put one more `sku` into the cart."""
        for line in self.items:
            if line.sku == sku:
                line.quantity += 1
                return
        self.items.append(Line(sku, 1, client))

    @property
    def total(self) -> Decimal:
        """What the cart costs, in euros."""
        return sum((line.total for line in self.items), Decimal())


class SocialSignIn:
    """A sign-in at another service, between leaving for it and coming back."""

    def __init__(self, provider: str, request: object) -> None:
        self.provider = provider
        self.request = request


def has_password_hash(user: object) -> bool:
    """Tell whether the password hash is with `user`; asking for the field would load it."""
    return isinstance(vars(user).get("password"), str)
