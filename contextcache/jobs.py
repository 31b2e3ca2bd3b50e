"""A guard for the messages of task queues: RQ, Celery and Huey.

A job whose argument was stripped would run with something other than what it was given. So a job
that cannot be stored whole is refused where it is enqueued, and the error names the argument, such
as `job.args[1].client._lock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from contextcache.guard import Guard

if TYPE_CHECKING:
    from contextcache.config import Config


class JobGuard(Guard):
    """A guard in mode `raise`, for jobs; what it signs is accepted as a job only.

    Args:
        config: The policy, whose mode is not used; by default that of `Config()`.
        mode: The mode.
        sink: The display name of the queue.
        **options: Single parts of the policy, by the names of `Config`.
    """

    PURPOSE: ClassVar[str] = "job"

    def __init__(
        self,
        config: Config | None = None,
        *,
        mode: str = "raise",
        sink: str = "job",
        **options: Any,
    ) -> None:
        super().__init__(config, mode=mode, sink=sink, **options)

    def dumps(self, value: object, *, label: str = "value", key: str | bytes = "") -> bytes:
        """Pickle a message of a task queue, or refuse it; see `Guard.dumps`.

        Args:
            value: What a serializer of RQ, kombu or Huey is given: a job, or a result.
            label: The root of the paths in what is no job.
            key: The key it is stored under, which the signature then covers.
        """
        job = _as_job(value)
        if job is not None:
            value, label = job, "job"
        return super().dumps(value, label=label, key=key)

    def serialize(self, data: object) -> bytes:
        """Return `dumps(data)`, under the name that Huey calls."""
        return self.dumps(data)

    def deserialize(self, data: bytes) -> Any:
        """Return `loads(data)`, under the name that Huey calls."""
        return self.loads(data)


class _Job(tuple[object, ...]):
    """A message that a library makes as a plain tuple, with names for its parts."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()

    def __reduce__(self) -> tuple[type, tuple[list[object]]]:
        return tuple, (list(self),)


class _EagerJob(_Job):
    _fields = ("args", "kwargs")


class _CeleryJob(_Job):
    _fields = ("args", "kwargs", "embed")


class _RQJob(_Job):
    _fields = ("func_name", "instance", "args", "kwargs")


_JOBS = {len(kind._fields): kind for kind in (_EagerJob, _CeleryJob, _RQJob)}


def _as_job(message: Any) -> Any:
    """Return `message` with names for its parts, or None if it is no job; Huey's has them."""
    job = message
    if type(message) is tuple:
        kind = _JOBS.get(len(message))
        job = None if kind is None else kind(message)
    names = type(job).__dict__.get("_fields") if issubclass(type(job), tuple) else None
    if type(names) is not tuple:
        return None
    parts = dict(zip(names, tuple.__iter__(job), strict=False))
    is_call = type(parts.get("args")) in (tuple, list) and type(parts.get("kwargs")) is dict
    return job if is_call else None
