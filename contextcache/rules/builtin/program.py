"""The running program: generators, modules, weak references, threads, frames."""

from __future__ import annotations

import itertools
import sys
from typing import Any

from contextcache.base.introspection import class_mro
from contextcache.rules.rule import Verb, recreated, rows

_UNSTORED_ITERATORS = [  # pickle has known none of them since 3.14, and some never
    f"itertools.{name}"
    for name, kind in vars(itertools).items()
    if sys.version_info >= (3, 14) and type(kind) is type
]


def is_nameless_method(obj: Any) -> bool:
    """Return True if a bound method is not found again: pickle asks its object for it by name.

    A private method has lost its name to the class, a decorated one may have that of its wrapper,
    and one put on a single object is not there yet when the object is being rebuilt.
    """
    owner = obj.__self__
    bases = class_mro(type(owner))[:-1]
    if issubclass(type(owner), type):
        bases = class_mro(owner)[:-1] + bases[:-1]
    try:
        name = obj.__reduce__()[1][1]  # as pickle stores it: a private one is mangled since 3.15
    except AttributeError:  # of something that is called and has no name
        return True
    names = {name, "__getattr__", "__getattribute__"}
    return names.isdisjoint(name for base in bases for name in base.__dict__)


ROWS = {
    **rows(
        "CC117", Verb.STRIP,
        "hmac.HMAC", "json.decoder.JSONDecoder", "csv.DictWriter", "symtable.SymbolTable",
        reason="it works through an object in C, which stays in this process",
        fix="store what it was made from, and make it where it is used",
    ),
    # Generators, coroutines, iterators
    **rows(
        "CC109", Verb.STRIP,
        "generator", "coroutine", "async_generator", "coroutine_wrapper",
        "async_generator_asend", "_csv.reader", "pandas:TextFileReader",
        fix="store its items: list(...), or the awaited result",
        once=True,
        instead={
            "generator": "list({})", "_csv.reader": "list({})",
            "async_generator": "[item async for item in {}]", "coroutine": "await {}",
        },
    ),
    **rows(
        "CC109", Verb.STRIP, *_UNSTORED_ITERATORS,
        fix="store what it is made from, and make it on read",
    ),
    **rows(
        "CC111", Verb.STRIP, "module", "lazy_import",
        fix="store the module's name and import it on read",
    ),
    # Weak references
    **rows(
        "CC112", Verb.STRIP, "weakref.ReferenceType", "weakref.KeyedRef", "weakref.WeakMethod",
        fix="store the object itself or its key",
    ),
    **rows(
        "CC112", Verb.RECREATE,
        "_weakrefset.WeakSet", "weakref.WeakValueDictionary", "weakref.WeakKeyDictionary",
        make=lambda obj: (type(obj), ()), did=recreated("empty collection"),
        fix="store the objects in a plain set or dict, "
        "or leave it out in __getstate__ of the class that holds it",
        anew={
            "_weakrefset.WeakSet": "weakref.WeakSet()",
            "weakref.WeakValueDictionary": "weakref.WeakValueDictionary()",
            "weakref.WeakKeyDictionary": "weakref.WeakKeyDictionary()",
        },
    ),
    # Threads, tasks, frames
    **rows(
        "CC114", Verb.STRIP, "frame", "traceback", "code", "cell", "property", "classmethod",
        "staticmethod",
        fix="store its text, for example traceback.format_exc()",
        instead={
            "traceback": "traceback.format_tb({})", "frame": "traceback.format_stack({})",
            "code": "{}.co_qualname",
        },
    ),
    **rows(
        "CC115", Verb.STRIP,
        "threading.Thread", "multiprocessing.process.BaseProcess", "multiprocessing.pool.Pool",
        "concurrent.futures._base.Future", "_asyncio.Future", "asyncio.futures.Future",
        "_asyncio.Task", "asyncio.events.AbstractEventLoop", "asyncio.events.Handle",
        "sched.scheduler", "gevent:Greenlet", "gevent:AsyncResult", "gevent:Group",
        "gevent:ThreadPool", "greenlet:greenlet", "trio:Nursery",
        fix="store its result, and start it again on read if it is needed", force=True,
    ),
    **rows(
        "CC115", Verb.STRIP,
        "concurrent.interpreters.Interpreter", "concurrent.interpreters._queues.Queue",
        reason="an interpreter and its queues belong to this process",
        fix="store its result, and create it where it is used", force=True,
    ),
    # What a reader could not find or fill
    **rows(
        "CC117", Verb.RECREATE, "random.SystemRandom",
        reason="it draws from the operating system and has no state",
        did="stored the rest; on load this field is a new one", fix="make it where it is used",
        anew="random.SystemRandom()",
    ),
    **rows(
        "CC119", Verb.STRIP, "method",
        when=is_nameless_method,
        reason="its object has no method of this name, by which pickle looks for it",
        fix="store the object, and take the method from it on read",
    ),
}  # fmt: skip
