"""More reports for `docs/before-after.md`: of dill, joblib, streamlit and other caches, too."""

from __future__ import annotations

import asyncio
import contextvars
import os
import ssl
import threading
import types
import weakref
from typing import Any

import flask

from tools.before_after import a_request, opened, report


def held(**attributes: Any) -> Any:
    """Return an object of the shape that a report describes: these attributes, and a name."""
    return Holder(attributes)


class Holder:
    def __init__(self, attributes: dict[str, Any]) -> None:
        self.name = "kept"
        self.__dict__.update(attributes)


class StripeObject(dict[str, Any]):
    def __setitem__(self, name: str, value: Any) -> None:
        if value == "":
            raise ValueError("You cannot set an empty string")
        super().__setitem__(name, value)


class StripeAccount:
    def __init__(self) -> None:
        self._values = {"id": 1}

    def __getattr__(self, name: str) -> Any:
        return self._values[name]


class RecurlyError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class HTTPError(Exception):
    pass


first_http_error = HTTPError


class HTTPError(Exception):  # type: ignore[no-redef]  # made once more, by the library
    pass


class Parent:
    pass


request_of_log: contextvars.ContextVar[str] = contextvars.ContextVar("request")
PARENT = Parent()


@report("crewAIInc/crewAI#3828", "ran a crew with memory", "cache['crew']")
def _() -> Any:
    return held(memory=threading.RLock())


@report("python-cachier/cachier#26", "cached a result that holds a lock", "cache['result']")
def _() -> Any:
    return {"result": held(_lock=threading.Lock())}


@report("pymedusa/Medusa#5998", "cached a subtitle", "cache['subtitle']")
def _() -> Any:
    return held(language="en", guess_lock=threading.RLock())


@report("langflow-ai/langflow#11412", "cached a flow with a dynamic schema", "cache['flow']")
def _() -> Any:
    import pydantic

    return {"schema": pydantic.create_model("InputSchema", text=(str, ...))}


@report("sethmlarson/truststore#207", "stored a client with its TLS context", "cache['client']")
def _() -> Any:
    return held(context=ssl.create_default_context())


@report("verl-project/verl#4894", "mapped a function with a tool", "cache['tool']")
def _() -> Any:
    import httpx

    return held(client=opened(httpx.Client()))


@report("redis/redis-py#2241", "passed a pool to another process", "cache['pool']")
def _() -> Any:
    import redis

    return {"pool": redis.ConnectionPool(port=1)}


@report("IdentityPython/djangosaml2#40", "kept a SAML adapter in the session", "session")
def _() -> Any:
    return {"saml": {"adapter": held(engine=types.ModuleType("engine"))}}


@report("joblib/joblib#452", "cached a method of an object with an engine", "cache['query']")
def _() -> Any:
    import sqlalchemy

    return held(engine=sqlalchemy.create_engine("sqlite://"))


@report("pallets-eco/flask-caching#366", "cached a response with call_on_close", "cache['page']")
def _() -> Any:
    response = flask.Response("page")
    response.call_on_close(lambda: None)
    return response


@report("edoburu/django-any-urlfield#9", "cached a model with a registry", "cache['page']")
def _() -> Any:
    return held(registry={"page": lambda: None})


@report("sqlalchemy/dogpile.cache#235", "cached a function that returns a lambda", "cache['value']")
def _() -> Any:
    return lambda: None


@report("litl/rauth#101", "kept an OAuth service for later", "session")
def _() -> Any:
    return {"service": held(sign=lambda request: request)}


@report("jazzband/django-model-utils#330", "cached a model with a tracker", "cache['user']")
def _() -> Any:
    def save() -> None:
        """The tracker's own `save`, around that of the model."""

    return held(save=save)


@report("pallets-eco/flask-caching#167", "cached send_from_directory", "cache['file']")
def _() -> Any:
    return flask.Response(opened(open(os.devnull, "rb")), direct_passthrough=True)


@report("encode/django-rest-framework#346", "cached a response with its request", "cache['page']")
def _() -> Any:
    return {"data": [1, 2], "renderer_context": {"request": a_request()}}


@report("inventree/InvenTree!2018", "copied the data of an upload", "cache['upload']")
def _() -> Any:
    from django.core.files.uploadedfile import TemporaryUploadedFile

    return {"file": opened(TemporaryUploadedFile("a.csv", "text/csv", 3, None)), "part": 7}


@report("openspending/openspending#1300", "cached a CSV that is streamed", "cache['csv']")
def _() -> Any:
    return flask.Response(line for line in ["a,b\n"])


@report("jorgecarleitao/public-contracts#30", "cached an analysis", "cache['analysis']")
def _() -> Any:
    return {"year": 2014, "rows": (row for row in [1, 2])}


@report("requests-cache/aiohttp-client-cache#1", "saved a response's history", "cache['response']")
def _() -> Any:
    return held(status=200, history=(step for step in [1]))


@report("Krukov/cashews#266", "gave a coroutine as the default", "cache['value']")
def _() -> Any:
    async def default() -> int:
        return 1

    made = default()
    made.close()
    return {"default": made}


@report("grantjenks/python-diskcache!358", "memoized an async function", "cache['value']")
def _() -> Any:
    async def answer() -> int:
        return 42

    made = answer()
    made.close()
    return made


@report("mcp-use/mcp-use#734", "kept an agent in the session's state", "session")
def _() -> Any:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    return {"agent": held(client=future)}


@report("Krukov/cashews#83", "cached a row with a mutable column", "cache['row']")
def _() -> Any:
    return held(_parents=[weakref.ref(PARENT)])


@report("grantjenks/python-diskcache#261", "memoized rows of a database", "cache['rows']")
def _() -> Any:
    return [{"id": 1, "photo": memoryview(b"png")}]


@report("boto/boto3#678", "cached the resources of boto3", "cache['resources']")
def _() -> Any:
    import boto3

    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k"}
    return {"sqs": boto3.resource("sqs", region_name="eu-west-1", **keys)}


@report("stripe/stripe-python#352", "cached an object with an empty field", "cache['card']")
def _() -> Any:
    card = StripeObject(id=1)
    dict.__setitem__(card, "name", "")
    return {"card": card}


@report("stripe/stripe-python#45", "cached an account", "cache['account']")
def _() -> Any:
    return {"account": StripeAccount()}


@report("celery/celery#6185", "stored the error of a payment", "cache['result']")
def _() -> Any:
    return {"error": RecurlyError(404, "no such account")}


@report("sendgrid/python-http-client#139", "stored the error of an e-mail", "cache['result']")
def _() -> Any:
    return {"error": first_http_error("bounced")}


@report("verl-project/verl-recipe#29", "mapped a function with a context variable", "cache['log']")
def _() -> Any:
    return held(request=request_of_log)


@report("google/adk-python#856", "deployed an agent with tools", "cache['agent']")
def _() -> Any:
    return held(context=contextvars.copy_context())


@report("uqfoundation/dill#716", "copied a thread", "cache['worker']")
def _() -> Any:
    return held(thread=threading.Thread())


@report("cloudpipe/cloudpickle#380", "passed the keys of a dict", "cache['names']")
def _() -> Any:
    return {"columns": {"a": 1, "b": 2}.keys()}
