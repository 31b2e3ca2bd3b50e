"""Thread-locals, locks, context variables and pools of workers."""

from __future__ import annotations

import sys
from _thread import RLock, allocate_lock
from typing import Any

from contextcache.base.importing import MAIN
from contextcache.base.introspection import class_mro, qualified_name
from contextcache.rules.replacements import (
    ByName,
    NothingThere,
    Reduced,
    Trimmed,
    fields,
    of_state,
    state_of,
    with_state,
)
from contextcache.rules.rule import Verb, recreated, rows

_LOCAL_FIX = (
    "leave it out in __getstate__ of the class that holds it, or store the value you need from it"
)
_LOCK_FIX = (
    "leave it out in __getstate__ of the class that holds it; across processes it protects nothing"
)


def empty_local(cls: type) -> tuple[object, tuple[object, ...]]:
    """Rebuild a thread-local of this class without values, as a new thread would see it."""
    for base in class_mro(cls):
        init = base.__dict__.get("__init__")
        if init is not None:
            code = getattr(init, "__code__", None)
            if code is not None:
                wanted = code.co_argcount - 1 - len(init.__defaults__ or ())
                keywords = code.co_kwonlyargcount - len(init.__kwdefaults__ or {})
                if wanted > 0 or keywords > 0:
                    return cls.__new__, (cls,)
            break
    return cls, ()


def asgiref_local(obj: object) -> tuple[object, tuple[object, ...]]:
    """Rebuild an empty `asgiref.local.Local` with the same binding to threads.

    `Local(...)` makes an instance of a private subclass, one of which is thread-critical.
    """
    critical = fields(obj).get("_thread_critical", "ThreadCritical" in type(obj).__name__)
    return class_mro(type(obj))[-2], (bool(critical),)


def gevent_semaphore(obj: Any) -> tuple[object, tuple[object, ...]]:
    """Rebuild a semaphore of gevent's with the count it began with, if it knows, or has now."""
    return type(obj), (getattr(obj, "_initial_value", obj.counter),)


def gevent_queue(obj: Any) -> tuple[object, tuple[object, ...]]:
    """Rebuild a queue of gevent's with its items; `queue.Queue` is one where gevent has patched."""
    return type(obj), (obj.maxsize, list(obj.queue))


def context_variable(obj: object) -> ByName:
    """Name a context variable that is a global of a module, so that it is stored by name."""
    for module_name, module in list(sys.modules.items()):
        if module_name in MAIN or module is None:
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is obj:
                return ByName(name)
    raise NothingThere


def idle_pool(obj: object) -> tuple[object, tuple[object, ...]]:
    """Rebuild a pool of threads or processes with the same number of workers."""
    own = fields(obj)
    names = [own["_thread_name_prefix"]] if "_thread_name_prefix" in own else []
    return type(obj), (own.get("_max_workers"), *names)


_CONDITION = frozenset({
    "_lock", "_waiters", "acquire", "release", "locked", "_release_save", "_acquire_restore",
    "_is_owned",
})  # fmt: skip


def bare_condition(obj: Any, reduced: Reduced) -> Trimmed | None:
    """Rebuild a `threading.Condition` from its lock, as every version of Python can.

    The methods of the lock that it holds differ between versions: 3.14 added `locked`.
    """
    state = state_of(reduced)
    if "_lock" not in state:
        return None
    own = {name: held for name, held in state.items() if name not in _CONDITION}
    init = next(base for base in class_mro(type(obj)) if "__init__" in base.__dict__)
    if qualified_name(init) == "threading.Condition":
        return (type(obj), (state["_lock"],), *([own] if own else [])), []
    kept = _CONDITION - {"locked"}  # a constructor of its own may want anything
    own |= {name: held for name, held in state.items() if name in kept}
    return of_state(reduced, own), []


def queue_to_shut_down(_: object, reduced: Reduced) -> Trimmed | None:
    """Give a `queue.Queue` written before Python 3.13 the attribute that later versions read."""
    state = state_of(reduced)
    if "mutex" not in state or "is_shutdown" in state:
        return None
    return with_state(reduced, is_shutdown=False), []


ROWS = {
    # Thread-locals
    **rows(
        "CC101", Verb.RECREATE,
        "_thread._local", "_threading_local.local", "gevent:local",
        uniform=empty_local,
        did=recreated("empty thread-local"),
        fix=_LOCAL_FIX, anew={"_thread._local": "threading.local()"},
    ),
    # Locks; what is built of them (Condition, Event, Semaphore, Queue, Barrier) comes along whole
    **rows(
        "CC102", Verb.RECREATE, "_thread.lock",
        uniform=lambda _: (allocate_lock, ()), did=recreated("unlocked lock"), fix=_LOCK_FIX,
        anew="threading.Lock()",
    ),
    **rows(
        "CC102", Verb.RECREATE, "_thread.RLock",
        uniform=lambda _: (RLock, ()), did=recreated("unlocked lock"), fix=_LOCK_FIX,
        anew="threading.RLock()",
    ),
    **rows(  # under gevent, threading.Lock and threading.RLock make these
        "CC102", Verb.RECREATE, "threading._RLock", "gevent.thread.LockType", "gevent:RLock",
        uniform=lambda cls: (cls, ()), did=recreated("unlocked lock"), fix=_LOCK_FIX,
    ),
    **rows(
        "CC102", Verb.TRIM, "threading.Condition", make=bare_condition,
        did="stored it with a new, unlocked lock", fix=_LOCK_FIX,
    ),
    **rows(
        "CC102", Verb.TRIM, "queue.Queue", make=queue_to_shut_down,
        did="stored it with a new, unlocked lock", fix=_LOCK_FIX,
    ),
    **rows(
        "CC102", Verb.RECREATE, "gevent:Semaphore",
        make=gevent_semaphore, did=recreated("free semaphore"), fix=_LOCK_FIX,
    ),
    **rows(
        "CC102", Verb.RECREATE, "gevent:Event",
        uniform=lambda cls: (cls, ()), did="stored the rest; on load this field is a new event",
        fix=_LOCK_FIX,
    ),
    **rows(
        "CC102", Verb.RECREATE, "gevent:SimpleQueue",
        make=gevent_queue, reason="a queue belongs to the threads of this process",
        did="stored the rest; on load this field is a new queue of the same items",
        fix="store the items, as a list",
    ),
    **rows(
        "CC102", Verb.STRIP,
        "multiprocessing.synchronize.SemLock", "multiprocessing.synchronize.Condition",
        "multiprocessing.synchronize.Event", "multiprocessing.queues.Queue",
        "multiprocessing.queues.SimpleQueue",
        reason="a lock shared between processes is inherited, not stored", fix=_LOCK_FIX,
        force=True,
    ),
    **rows(
        "CC102", Verb.RECREATE, "_queue.SimpleQueue",
        reason="a queue belongs to the threads of this process",
        did=recreated("empty queue"), fix="store the items, as a list",
        anew="queue.SimpleQueue()",
    ),
    # Context variables
    **rows(
        "CC103", Verb.SNAPSHOT, "_contextvars.ContextVar", "contextvars.ContextVar",
        make=context_variable,
        did="stored the variable by name; its value stays in this process",
        fix="store the variable's value, from its get()",
    ),
    **rows(
        "CC103", Verb.STRIP,
        "_contextvars.Token", "_contextvars.Context", "contextvars.Token", "contextvars.Context",
        fix="store the values you need from it",
    ),
    **rows(
        "CC103", Verb.RECREATE, "asgiref.local.Local",
        make=asgiref_local, did=recreated("empty Local"),
        fix=_LOCAL_FIX,
    ),
    **rows(
        "CC103", Verb.RECREATE, "werkzeug.local.Local", "werkzeug.local.LocalStack",
        did=recreated("empty Local"), fix="store the value you need from it",
        anew={"werkzeug.local.Local": "Local()", "werkzeug.local.LocalStack": "LocalStack()"},
    ),
    # Pools of workers
    **rows(
        "CC115", Verb.RECREATE, "concurrent.futures.thread.ThreadPoolExecutor",
        "concurrent.futures.process.ProcessPoolExecutor",
        make=idle_pool, did=recreated("idle pool"),
        fix="leave it out in __getstate__ of the class that holds it, and make it on first use",
    ),
}  # fmt: skip
