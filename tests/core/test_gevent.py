"""Greenlets that switch in the middle of a dump do not meet each other's offenders."""

from __future__ import annotations

from tests.child import run

SCRIPT = """
    from gevent import monkey
    monkey.patch_all()
    import gevent, logging, pickle, threading
    from contextcache import Guard
    from contextcache.testing import capture_findings
    logging.disable(logging.CRITICAL)

    class Owner:
        def __init__(self, name):
            self.name = name
            self.lock = threading.Lock()
            self.steps = (step for step in ())

        def __getstate__(self):
            gevent.sleep(0)  # another greenlet dumps meanwhile
            return self.__dict__

    guard = Guard()
    read = {}

    def write(name):
        for _ in range(5):
            payload = guard.dumps({"owner": Owner(name)}, label=f"cache['{name}']")
            read[name] = pickle.loads(payload)["owner"]

    names = [f"key:{number}" for number in range(40)]
    with capture_findings() as findings:
        gevent.joinall([gevent.spawn(write, name) for name in names], raise_error=True)
    print("own values:", all(read[name].name == name for name in names))
    told = sorted(str(finding.path) for finding in findings)
    wanted = [f"cache['{name}']['owner'].{field}" for name in names for field in ("lock", "steps")]
    print("own findings:", told == sorted(wanted * 5))
    print("own markers:", all(name in repr(read[name].steps) for name in names))
"""


PATCHED = """
    from gevent import monkey
    monkey.patch_all()
    import pickle, queue, socket, threading
    import gevent.event, gevent.lock
    from contextcache import Guard, is_stripped

    queued = queue.Queue(3)
    queued.put("item")
    held = threading.Lock()
    held.acquire()
    local = threading.local()
    local.user = "ann"
    value = {
        "lock": held, "rlock": threading.RLock(), "condition": threading.Condition(),
        "event": threading.Event(), "semaphore": threading.BoundedSemaphore(2),
        "local": local, "queue": queued, "own rlock": gevent.lock.RLock(),
        "own semaphore": gevent.lock.Semaphore(2), "own event": gevent.event.Event(),
        "socket": socket.socket(), "result": gevent.event.AsyncResult(),
    }
    guard = Guard()
    for finding in guard.explain(value):
        print(finding.code, finding.path, finding.action)
    loaded = guard.loads(guard.dumps(value))
    print("of their types:", all(type(loaded[n]) is type(value[n]) for n in list(value)[:-2]))
    print("stripped:", is_stripped(loaded["socket"]), is_stripped(loaded["result"]))
    print("free:", all(
        loaded[name].acquire(blocking=False)
        for name in ("lock", "rlock", "condition", "semaphore", "own rlock", "own semaphore")
    ))
    loaded["condition"].notify()
    queued, local = loaded["queue"], loaded["local"]
    print("as before:", queued.get_nowait(), queued.maxsize, vars(local))
"""


def test_what_gevent_has_patched_is_recreated_like_the_originals() -> None:
    """The locks, queues and thread-locals of a patched process are those of gevent."""
    assert run(PATCHED).splitlines() == [
        "CC102 value['lock'] recreated",
        "CC102 value['rlock'] recreated",
        "CC102 value['condition']._lock recreated",
        "CC102 value['event'] recreated",
        "CC102 value['semaphore']._cond._lock recreated",
        "CC101 value['local'] recreated",
        "CC102 value['queue'] recreated",
        "CC102 value['own rlock'] recreated",
        "CC102 value['own semaphore'] recreated",
        "CC102 value['own event'] recreated",
        "CC108 value['socket'] stripped",
        "CC115 value['result'] stripped",
        "of their types: True",
        "stripped: True True",
        "free: True",
        "as before: item 3 {}",
    ]


def test_greenlets_keep_their_own_values_findings_and_markers() -> None:
    """Forty greenlets, each dump of which is interrupted by the others."""
    assert run(SCRIPT).splitlines() == [
        "own values: True",
        "own findings: True",
        "own markers: True",
    ]
