"""What a shop puts into its cache and its sessions, and should not."""

from __future__ import annotations

import threading


class Client:
    """An API client as they are: settings, a lock and something per thread."""

    def __init__(self) -> None:
        self.id = 7
        self._lock = threading.Lock()
        self._local = threading.local()
        self._local.token = "canary"


class Item:
    def __init__(self, name: str, client: Client | None = None) -> None:
        self.name = name
        self.client = client


class Cart:
    def __init__(self, *items: Item) -> None:
        self.items = list(items)


def dirty_cart() -> Cart:
    """A cart whose second item holds the client it was bought through."""
    return Cart(Item("tea"), Item("cup", Client()))


def generator() -> object:
    """Something of which nothing can be stored."""
    return (number for number in range(3))


class PerThread(threading.local):
    """Values of one thread, which a rule may ask to store."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)


class Brittle:
    """A class a deploy removes: it can be stored, but not be read back."""

    def __setstate__(self, state: object) -> None:
        raise RuntimeError("canary")
