"""Verdicts about objects that offend by what they do or hold, whatever their type is."""

from __future__ import annotations

import dataclasses

from contextcache.rules.rule import Verb, Verdict

# Of what pickle says
REFUSES = Verdict(
    verb=Verb.STRIP,
    code="CC117",
    fix="leave it out in __getstate__ of the class that holds it, or store what it was made from",
)
LOST_HANDLE = Verdict(
    verb=Verb.STRIP,
    code="CC117",
    reason="what it stands for is kept by a C library, in this process",
    fix="store the data that it was made from, and make it again on read",
)
RAISED = Verdict(
    verb=Verb.STRIP,
    code="CC118",
    fix="mend its __reduce__ or __getstate__, or store what it was made from",
)
RECURSES = dataclasses.replace(RAISED, exhausts_stack=True)
UNAWAITED = dataclasses.replace(
    RAISED,
    reason="it asks the database, which async code may not do without await",
    fix="evaluate it before: [row async for row in rows]",
)
UNRENDERED = dataclasses.replace(
    RAISED,
    reason="the response is not rendered yet",
    fix="render it before it is stored: response.render()",
)
UNIMPORTABLE = Verdict(
    verb=Verb.STRIP,
    code="CC110",
    fix="move it to the top level of a module, under its own name",
)
UNLOADABLE = Verdict(
    verb=Verb.STRIP,
    code="CC119",
    fix="give it a __reduce__ that its constructor accepts, or store what it was made from",
)
ONLY_HERE = dataclasses.replace(
    UNLOADABLE,
    reason="it is stored by name, and only this process finds it by that name",
    fix="store what it was made from, or define it in a module that every process can import",
)
NOT_FRESH = dataclasses.replace(
    UNLOADABLE,
    did="stored it as it is",
    fix="store what it was made from, or make what loading it needs when its module is imported",
)
LOSES_ATTRIBUTES = Verdict(
    verb=Verb.OBSERVE,
    code="CC122",
    reason="its base class says what pickle stores, and does not know the attributes it has",
    did="stored it without these attributes",
    fix="give the class a __reduce__ that stores its attributes, too",
)

# Of the value as a whole
TOO_DEEP = Verdict(
    verb=Verb.REFUSE,
    code="CC130",
    fix="store a flat list with ids instead of nested objects",
    exhausts_stack=True,
    is_endless=True,
)
OVERSIZED = Verdict(
    verb=Verb.REFUSE,
    code="CC131",
    fix="store less of it; the limit is {size} bytes (MAX_SIZE)",
)
CHANGING = Verdict(
    verb=Verb.REFUSE, code="CC132", fix="store a copy made under the lock that guards it"
)
CIRCULAR = Verdict(
    verb=Verb.REFUSE,
    code="CC133",
    fix="return what refers back to it as the state of __reduce__, not as its arguments",
    exhausts_stack=True,
    is_endless=True,
)

# Of plain data, which no type shows: see `credentials`
ENVIRON = Verdict(
    verb=Verb.OBSERVE,
    code="CC106",
    reason="the environment or headers of a request carry its cookies and credentials",
    did="stored it without credentials",
    fix="store the values you need from the request, not all of its headers",
)
BY_HAND = Verdict(
    verb=Verb.OBSERVE,
    code="CC120",
    is_secret=True,
    reason="it is a credential that the current request was sent",
    did="stored it as it is",
    fix="store what it stands for, such as the primary key of the user",
)
NOT_SEARCHED = Verdict(
    verb=Verb.OBSERVE,
    code="CC106",
    reason="it may hold the credentials of a request, which cannot be taken out of it",
    did="stored it as it is",
    fix="store the values you need from the request, in a flat dict",
)
LOOKS_LIKE_SECRET = Verdict(
    verb=Verb.OBSERVE,
    code="CC120",
    is_secret=True,
    did="stored it as it is",
    fix="leave it out of what is stored, and take it on read from where the application keeps it",
)
