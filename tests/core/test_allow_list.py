"""An allow-list: nothing is called or changed but what a payload may call and has made."""

from __future__ import annotations

import collections
import copyreg
import ipaddress
import pickle
import random
import sys
import types
import zoneinfo
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from contextlib import suppress
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from contextcache import Guard, UnreadablePayloadError, UntrustedPayloadError
from contextcache.payload.allow_list import AllowList
from contextcache.payload.loading import SAFE_GLOBALS, RefusedOperationError, UnlistedNameError
from tests import zoo
from tests.core import programs
from tests.core.programs import (
    NONE,
    PROTOCOL,
    TRUE,
    build,
    call,
    mapping,
    name,
    new,
    own,
    row,
    slots,
    state,
    text,
    whole,
)

programs.Singleton()
programs.KeptByMeta()
ALLOWED = AllowList(programs.LISTED)
SHARED: list[object] = [
    *ALLOWED._objects.values(), programs.Right.READ, programs.Role.USER, programs.Status.PAID,
    programs.Singleton.one, programs.Borg.shared, programs.LateBorg.shared,
    programs.SharedAttributes.shared, programs.InitArgs.shared, programs._Kept.kept,
    programs.CART, programs.ROWS, programs.TABLE, programs,
    sys.modules["builtins"], collections, ipaddress,
    zoneinfo.ZoneInfo("UTC"), types.FunctionType,
]  # fmt: skip

BOTH = state(owned=TRUE)
PLAIN = name("builtins", "str")
CHANGES = {
    "a class": build(own("Cart"), slots(total=PLAIN)),
    "a class by its dict": build(own("Cart"), BOTH),
    "a class that is always allowed": build(
        name("ipaddress", "IPv4Address"), slots(is_private=TRUE)
    ),
    "a built-in class": build(name("builtins", "object"), slots(owned=TRUE)),
    "a type in C": build(name("collections", "deque"), slots(owned=TRUE)),
    "an exception class": build(own("OddError"), slots(owned=TRUE)),
    "a class with a state of its own": build(own("Stateful"), BOTH),
    "an enum class": build(own("Role"), slots(ADMIN=TRUE)),
    "a class as a mapping": own("Bag") + text("a") + TRUE + b"s",
    "a class as a list": own("Items") + TRUE + b"a",
    "a class as a set": own("Group") + b"(" + TRUE + b"\x90",
    "a copy on the stack": own("Cart") + b"2" + slots(total=PLAIN) + b"b0",
    "what is remembered": own("Cart") + b"q\x050h\x05" + slots(total=PLAIN) + b"b",
    "a class in a tuple": row(build(own("Cart"), slots(total=PLAIN))),
    "a function's defaults": build(own("discount"), slots(__defaults__=row(NONE))),
    "a function's code": build(own("discount"), slots(__code__=NONE)),
    "a function's dict": build(own("discount"), BOTH),
    "a function that is always allowed": build(name("copyreg", "_reconstructor"), BOTH),
    "getattr": build(name("builtins", "getattr"), BOTH),
    "a named object": build(own("CART"), BOTH),
    "a named object as a mapping": own("CART") + text("a") + TRUE + b"s",
    "an enum member": build(call(own("Role"), b"K\x01"), state(_value_=b"K\x02")),
    "a text of an enum": build(call(own("Status"), text("paid")), state(_value_=text("free"))),
    "a flag": build(call(own("Right"), b"K\x01"), state(_value_=b"K\x02")),
    "an enum member by NEWOBJ": build(new(own("Role"), b"K\x01"), state(_value_=b"K\x02")),
    "an enum member by OBJ": build(b"(" + own("Role") + b"K\x01o", state(_value_=b"K\x02")),
    "an enum member by INST": build(
        b"(K\x01i" + f"{programs.__name__}\nRole\n".encode(), state(_value_=b"K\x02")
    ),
    "a reconstructed enum member": call(
        name("copyreg", "_reconstructor"), own("Role"), name("builtins", "int"), b"K\x01"
    ) + state(_value_=b"K\x02") + b"b",
    "a singleton": build(new(own("Singleton")), BOTH),
    "a called singleton": build(call(own("Singleton")), BOTH),
    "the instance of a metaclass": build(call(own("KeptByMeta")), BOTH),
    "attributes shared by __new__": build(new(own("Borg")), BOTH),
    "attributes shared by __init__": build(call(own("LateBorg")), BOTH),
    "attributes behind a property": build(new(own("SharedAttributes")), BOTH),
    "attributes of __getinitargs__": build(b"(" + own("InitArgs") + b"o", BOTH),
    "attributes of another object": build(new(own("Proxy")), BOTH),
    "what a function shares": build(call(own("shared_cart")), BOTH),
    "a list that a function shares": call(own("shared_rows")) + TRUE + b"a",
    "more of that list": call(own("shared_rows")) + b"(" + TRUE + b"e",
    "an item of that list": call(own("shared_rows")) + b"K\x00" + TRUE + b"s",
    "a dict that a function shares": call(own("shared_table")) + b"(" + text("a") + TRUE + b"u",
    "bytes behind a view": call(own("shared_bytes")) + b"K\x00K\x00s",
    "a function that a function returns": build(call(own("a_function")), BOTH),
    "a class that a function returns": build(call(own("a_class")), slots(total=TRUE)),
    "what a function returns again": build(call(own("given"), own("Cart")), slots(total=TRUE)),
    "a shared object, returned again": build(call(own("given"), own("CART")), BOTH),
    "a time zone": build(
        call(
            call(name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"), text("_unpickle")),
            text("UTC"), TRUE,
        ),
        BOTH,
    ),
    "a called time zone": build(call(name("zoneinfo", "ZoneInfo"), text("UTC")), BOTH),
    "a small integer": build(new(name("builtins", "int"), b"K\x01"), BOTH),
    "an object in C": build(call(name("decimal", "Decimal"), text("1")), BOTH),
    "an object twice": build(build(new(own("Cart")), BOTH), BOTH),
    "an object after its state": build(new(own("Items")), BOTH) + TRUE + b"a",
    "the method that takes the state": build(
        build(new(own("Cart")), state(__setstate__=own("discount"))), BOTH
    ),
    "the method that takes the items": build(new(own("Items")), state(extend=own("discount")))
    + b"(" + TRUE + b"e",
    "what an object and its class hold": build(call(own("KeptError")), BOTH),
    "an object that takes no items": new(own("Cart")) + TRUE + b"a",
    "an object that takes no elements": new(own("Cart")) + b"(" + TRUE + b"\x90",
    "a list behind an append": new(own("Basket")) + TRUE + b"a",
    "a list behind an extend": new(own("Basket")) + b"(" + TRUE + b"e",
    "a list behind an item": new(own("Basket")) + TRUE + TRUE + b"s",
    "a list behind an add": new(own("Shelf")) + b"(" + TRUE + b"\x90",
    "a property": build(new(own("Watched")), slots(price=TRUE)),
    "a property of an exception": build(call(own("OddError")), state(source=TRUE)),
    "the class of an object": build(new(own("Cart")), slots(__class__=own("Caller"))),
    "the dict of an object": build(new(own("Cart")), slots(__dict__=call(own("shared_table")))),
    "a default factory": build(
        call(own("Factory"), NONE), slots(default_factory=call(own("a_function")))
    ),
    "the context of an exception": build(call(own("OddError")), state(__cause__=NONE)),
    "a name that is no string": build(new(own("Cart")), row(NONE, mapping((b"K\x01", TRUE)))),
    "a state that is no dict": build(new(own("Cart")), b"]"),
}  # fmt: skip
CALLS = {
    "what a function returns": call(call(own("a_function")), text("x")),
    "an instance": call(new(own("Caller"))),
    "an instance that was called": call(call(own("Caller"))),
    "an instance by OBJ": b"(" + new(own("Caller")) + TRUE + b"o",
    "what is remembered": call(own("a_function")) + b"q\x050h\x05)R",
    "a default factory": call(name("collections", "defaultdict"), call(own("a_function"))),
    "the factory of a subclass": call(own("Factory"), call(own("a_function"))),
    "the factory of a reconstructed one": call(
        name("copyreg", "_reconstructor"), own("Factory"), name("collections", "defaultdict"),
        call(own("a_function")),
    ),
    "a named object": call(own("CART")),
    "what an enum calls for its members": call(
        own("Empty"), text("X"), mapping((text("__new__"), call(own("a_function"))), (TRUE, TRUE))
    ),
    "what an enum calls, by NEWOBJ": new(own("Empty"), text("X"), b"]"),
    "a class that an enum makes": call(own("Empty"), text("X"), b"]" + text("A") + b"a"),
    "the keys of an object": call(
        name("builtins", "dict"),
        build(call(name("types", "SimpleNamespace")), state(keys=call(own("a_function")))),
    ),
    "the items of a counter": call(
        name("collections", "Counter"),
        build(call(name("types", "SimpleNamespace")), state(keys=call(own("a_function")))),
    ),
    "a method of a namespace": call(
        name("types", "SimpleNamespace"), state(append=call(own("a_function")))
    ) + TRUE + b"a",
    "a method of its subclass": call(own("Space"), state(append=call(own("a_function")))),
    "a ratio by its keyword": name("fractions", "Fraction") + b")" + state(
        numerator=build(
            call(name("types", "SimpleNamespace")),
            state(as_integer_ratio=call(own("a_function"))),
        )
    ) + b"\x92",
    "a ratio": call(
        name("fractions", "Fraction"),
        build(
            call(name("types", "SimpleNamespace")),
            state(as_integer_ratio=call(own("a_function"))),
        ),
    ),
    "getattr of an instance": call(name("builtins", "getattr"), new(own("Cart")), text("total")),
    "getattr of a class": call(name("builtins", "getattr"), own("Cart"), text("total")),
    "getattr of a function": call(
        name("builtins", "getattr"), own("discount"), text("__globals__")
    ),
    "getattr of a zone": call(
        name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"), text("no_cache")
    ),
    "getattr by a name that compares equal": call(
        name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"),
        new(own("Text"), text("_unpickle")),
    ),
    "a method of a lock": call(
        call(
            name("builtins", "getattr"), call(name("_thread", "allocate_lock")), text("acquire")
        )
    ),
    "another codec": call(name("_codecs", "encode"), text("x"), text("rot13")),
    "a reconstructor without a class": call(
        name("copyreg", "_reconstructor"), own("discount"), name("builtins", "object"), NONE
    ),
    "a reconstructor of something else": call(
        name("copyreg", "_reconstructor"), own("Cart"), own("Text"), text("x")
    ),
    "a snapshot of an object": call(
        name("contextcache.payload.wire", "_snapshot"),
        build(call(name("types", "SimpleNamespace")), state(keys=call(own("a_function")))),
    ),
    "a name that was computed": call(name("builtins", "str"), text("os")) + text("f") + b"\x93",
    "a dotted name": name(programs.__name__, "Cart.total"),
    "an attribute of a function": name(programs.__name__, "discount.__globals__"),
    "a persistent id": text("id") + b"Q",
    "an extension": b"\x82\x01",
    "a buffer": b"\x97",
}  # fmt: skip


@pytest.mark.parametrize(
    "end", [b".", b"0cos\nsystem\n.", b""], ids=["whole", "refused", "cut off"]
)
@pytest.mark.parametrize("part", [*CHANGES.values(), *CALLS.values()], ids=[*CHANGES, *CALLS])
def test_a_payload_changes_and_calls_nothing_else(part: bytes, end: bytes) -> None:
    """Each uses only names that are listed, or always allowed."""
    programs.called.clear()
    before = programs.snapshot(SHARED)
    with pytest.raises((UnlistedNameError, RefusedOperationError, pickle.UnpicklingError)):
        ALLOWED.loads(PROTOCOL + part + end)
    assert programs.changed(before) == []
    assert programs.called == []
    assert programs.BYTES == b"abc"


def test_what_is_refused_is_refused_before_anything_runs() -> None:
    """A function that may be called is not called on the way to what may not be done."""
    programs.ran.clear()
    for last in (build(own("Cart"), BOTH), call(call(own("a_function"))), name("os", "system")):
        with pytest.raises((UnlistedNameError, RefusedOperationError)):
            ALLOWED.loads(whole(call(own("fresh_cart")), call(own("given"), TRUE), last))
    assert programs.ran == []


def test_the_items_of_a_state_are_its_own() -> None:
    """A dict can hold an `items` that a function has returned."""
    bag = build(new(own("Bag")) + text("a") + TRUE + b"s", state(items=call(own("a_function"))))
    programs.called.clear()
    loaded = ALLOWED.loads(PROTOCOL + build(call(own("Initialized")), bag) + b".")
    assert vars(loaded) == {"args": (), "a": True}
    assert programs.called == []


CONVERTERS = [
    "builtins:bool", "builtins:bytearray", "builtins:bytes", "builtins:complex", "builtins:dict",
    "builtins:float", "builtins:int", "builtins:range", "builtins:str", "collections:Counter",
    "collections:OrderedDict", "collections:defaultdict", "datetime:date", "datetime:datetime",
    "datetime:time", "datetime:timedelta", "decimal:Decimal", "fractions:Fraction",
    "ipaddress:IPv4Address", "ipaddress:IPv6Address", "uuid:UUID", "zoneinfo:ZoneInfo",
]  # fmt: skip


@pytest.mark.parametrize("converter", CONVERTERS)
def test_what_is_always_allowed_calls_no_method_of_its_arguments(converter: str) -> None:
    """Neither of these nor of what is in them: `str` of a list calls `__repr__` of its items."""
    function, one = name(*converter.split(":")), new(own("Talkative"))
    programs.called.clear()
    for given in (one, b"]" + one + b"a", row(one), row(row(one)), call(name("builtins", "list"),
                  b"]" + one + b"a")):  # fmt: skip
        for args in ((given,), (NONE, given), (b"K\x07", given), (b"K\x07", b"K\x07", given)):
            with suppress(Exception):
                ALLOWED.loads(PROTOCOL + call(function, *args) + b".")
    assert programs.called == []


LOADED = {
    "an object": (build(new(own("Cart")), BOTH), programs.Cart),
    "one with slots": (
        build(new(own("Slots")), slots(price=TRUE, _Slots__secret=TRUE)), programs.Slots
    ),
    "one with a state of its own": (build(new(own("Stateful")), TRUE), programs.Stateful),
    "one with __init__ and a state": (
        build(call(own("Initialized"), TRUE), BOTH), programs.Initialized
    ),
    "one with __new__": (build(new(own("Numbered")), BOTH), programs.Numbered),
    "what a function makes": (build(call(own("fresh_cart")), BOTH), programs.Cart),
    "items for what a function makes": (call(own("fresh_rows")) + TRUE + b"a", programs.Items),
    "an enum member": (call(own("Role"), b"K\x01"), programs.Role),
    "a list with attributes": (build(new(own("Items")) + b"(" + TRUE + b"e", BOTH), programs.Items),
    "a dict of a class's own": (new(own("Bag")) + b"(" + TRUE + NONE + b"u", programs.Bag),
    "a set of a class's own": (build(call(own("Group"), b"]"), BOTH), programs.Group),
    "a defaultdict": (
        call(name("collections", "defaultdict"), own("fresh_cart")), collections.defaultdict
    ),
    "an exception with notes": (
        build(call(own("OddError"), TRUE), state(code=TRUE, __notes__=b"]")), programs.OddError
    ),
    "an exception that refers to itself": (
        build(call(own("SelfError"), text("x")), BOTH), programs.SelfError
    ),
    "an object that says how it is pickled": (
        call(own("Shelf")) + b"(" + TRUE + b"e", programs.Shelf
    ),
    "a reconstructed object": (
        build(
            call(name("copyreg", "_reconstructor"), own("Cart"), name("builtins", "object"), NONE),
            BOTH,
        ),
        programs.Cart,
    ),
    "names of Python 2": (
        b"ccopy_reg\n_reconstructor\n"
        + row(own("Bag"), b"c__builtin__\ndict\n", b"}") + b"R", programs.Bag,
    ),
    "what is shared": (call(own("shared_cart")), programs.Cart),
}  # fmt: skip


@pytest.mark.parametrize(("part", "kind"), LOADED.values(), ids=LOADED)
def test_what_a_payload_makes_itself_it_may_fill(part: bytes, kind: type) -> None:
    """As pickle does for instances of these classes."""
    body = b"\x80\x02" + part + b"."
    loaded, expected = ALLOWED.loads(body), pickle.loads(body)
    assert type(loaded) is kind
    assert getattr(loaded, "__dict__", {}).keys() == getattr(expected, "__dict__", {}).keys()


def test_a_factory_with_a_cache_shares_what_it_returns() -> None:
    """Its first instance is new, and kept for others."""
    part = build(call(own("Singleton")), BOTH)
    programs.Singleton.one = None
    with pytest.raises(RefusedOperationError):
        ALLOWED.loads(PROTOCOL + part + b".")
    assert vars(programs.Singleton()) == {}


class _Names(pickle.Unpickler):
    def __init__(self, body: bytes) -> None:
        import io

        super().__init__(io.BytesIO(body))
        self.names: set[str] = set()

    def find_class(self, module: str, qualname: str) -> Any:
        modern = NAME_MAPPING.get(
            (module, qualname), (IMPORT_MAPPING.get(module, module), qualname)
        )
        self.names.add(":".join(modern))
        return super().find_class(module, qualname)


NOT_LISTABLE = ("builtins:", "functools:partial", "operator:", "threading:Thread")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("case", zoo.INNOCENTS, ids=str)
def test_what_pickle_writes_of_listed_classes_loads(case: zoo.Case, protocol: int) -> None:
    """In every protocol, as without a list."""
    try:
        body = pickle.dumps(case.build(), protocol)
        reader = _Names(body)
        expected = reader.load()
    except Exception:  # a protocol that cannot hold it
        return
    wanted = reader.names - {"builtins:getattr"} - set(SAFE_GLOBALS)
    if any(one.startswith(NOT_LISTABLE) for one in wanted) or ":Meta" in str(wanted):
        return
    try:
        loaded = AllowList(wanted).loads(body)
    except UnlistedNameError as error:
        assert error.name_used == "builtins:getattr"  # noqa: PT017  # a method, by its name
    else:
        assert type(loaded) is type(expected)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "error",
    [
        ImportError("m", name="n", path="p"),
        ModuleNotFoundError("m", name="n"),
        AttributeError("a", name="n", obj=1),
        OSError(2, "x", "file"),
        ValidationError("x", code="y", params={"a": 1}),
        ValidationError({"field": ["x", "y"]}),
    ],
    ids=repr,
)
def test_exceptions_load_with_their_state(error: Exception, protocol: int) -> None:
    """Some hold it in members in C, and one of Django holds itself."""
    body = pickle.dumps(error, protocol)
    reader = _Names(body)
    expected = reader.load()
    loaded: Any = AllowList(reader.names - set(SAFE_GLOBALS)).loads(body)
    assert repr(loaded) == repr(expected)
    assert vars(loaded).keys() == vars(expected).keys()
    for attribute in ("name", "path", "filename"):
        assert getattr(loaded, attribute, None) == getattr(expected, attribute, None)


def test_what_contextcache_makes_of_locks_loads() -> None:
    """A condition holds methods of its lock, found with `getattr`."""
    import queue
    import threading

    guard = Guard(loadable=["threading:Condition", "threading:Event", "queue:Queue"])
    value = {"event": threading.Event(), "queue": queue.Queue(), "ready": threading.Condition()}
    loaded = guard.loads(guard.dumps(value))
    loaded["event"].set()
    loaded["queue"].put(1)
    with loaded["ready"]:
        assert loaded["queue"].get() == 1


def test_the_words_for_what_is_refused() -> None:
    """They name the class, which is listed, and what to do."""
    with pytest.raises(UntrustedPayloadError) as caught:
        Guard(loadable=[f"{programs.__name__}:Cart"]).loads(
            PROTOCOL + build(own("Cart"), BOTH) + b".", label="cache['k']"
        )
    assert str(caught.value) == (
        "cache['k'] cannot be read: it changes tests.core.programs:Cart, which is a class; "
        "no pickler writes that; find out who wrote it"
    )


def test_both_unpicklers_agree_on_damaged_payloads() -> None:
    """What stock pickle refuses is refused; what is read is what it reads."""
    guard = Guard(loadable=[])
    values = [{"a": [1, 2.5, "ä", b"x", None, (1,), {2}, 2**70]}, collections.Counter("aab")]
    drawn = random.Random(12)
    for value in values:
        for protocol in range(6):
            body = bytearray(pickle.dumps(value, protocol))
            for _ in range(200):
                damaged = bytearray(body)
                for _ in range(drawn.randint(1, 3)):
                    damaged[drawn.randrange(len(damaged))] = drawn.choice(
                        b"0(.)}]ab2hjpqRstu\x80\x94\x95"
                    )
                try:
                    loaded = guard.loads(bytes(damaged))
                except UnreadablePayloadError:
                    continue
                with suppress(ModuleNotFoundError):  # a name of Python 2 in a later protocol
                    assert repr(loaded) == repr(pickle.loads(damaged))


@pytest.mark.parametrize(
    "body",
    [
        b"I01\n.",
        b"I00\n.",
        b"I1\r\n.",
        b"L5L\n.",
        b"L5\n.",
        b"F1.5\n.",
        b"S'a\\x41'\n.",
        b"Va\\u00e4\n.",
        b"\x80\x02}q\x00.",
        b"(lp0\nI1\na.",
        b"]\x94h\x00.",
        b"]r\x00\x00\x01\x00j\x00\x00\x01\x00.",
        b"]p3\ng3\n.",
        b"h\x09.",
        b"g9\n.",
        b"(1.",
        b"1.",
        b"0.",
        b".",
        b"N..",
        b"N",
        b"\x80\x04\x80\x05N.",
        b"\x80\x09N.",
        b"\x95\x02\x00\x00\x00\x00\x00\x00\x00N.",
        b"\x95\xff\x00\x00\x00\x00\x00\x00\x00N.",
        b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.",
        b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a\x98.",
        b"\x97.",
        b"U\x02\xffa.",
        b"T\x01\x00\x00\x00a.",
        b"\x8c\x02\xff\xfe.",
        b"((t2\x85.",
        b"]2a.",
        b"(d.",
        b"(Nd.",
        b"\x8b\xff\xff\xff\xff.",
        b"\x8a\x00.",
        b"J\xff\xff\xff\xff.",
        b"G\x7f\xf8\x00\x00\x00\x00\x00\x00.",
    ],
)
def test_every_way_to_write_data_is_read_as_pickle_reads_it(body: bytes) -> None:
    """There is one parser, CPython's; a list changes nothing for plain data."""
    try:
        expected = repr(pickle.loads(body))
    except Exception:
        with pytest.raises(Exception):  # noqa: B017, PT011
            ALLOWED.loads(body)
    else:
        assert repr(ALLOWED.loads(body)) == expected


def test_extension_codes_never_keep_a_symbol() -> None:
    """CPython would keep what stands for a class in its own cache, for every later reader."""
    copyreg.add_extension(programs.__name__, "Cart", 123)
    try:
        with pytest.raises(UnlistedNameError):
            ALLOWED.loads(PROTOCOL + b"\x82\x7b.")
        assert pickle.loads(PROTOCOL + b"\x82\x7b.") is programs.Cart
    finally:
        copyreg.remove_extension(programs.__name__, "Cart", 123)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("size", [2_000, 20_000])
def test_verifying_costs_a_constant_per_operation(size: int) -> None:
    """Counted in calls, not in seconds: they grow with the payload and no faster."""
    body = pickle.dumps([programs.Cart() for _ in range(size)], 5)
    calls = 0

    def count(_frame: Any, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        ALLOWED._verifier.verify(body)
    finally:
        sys.setprofile(None)
    assert calls < 20 * size
