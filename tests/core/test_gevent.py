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

    names = [f"key {number}" for number in range(40)]
    with capture_findings() as findings:
        gevent.joinall([gevent.spawn(write, name) for name in names], raise_error=True)
    print("own values:", all(read[name].name == name for name in names))
    told = sorted(str(finding.path) for finding in findings)
    wanted = [f"cache['{name}']['owner'].{field}" for name in names for field in ("lock", "steps")]
    print("own findings:", told == sorted(wanted * 5))
    print("own markers:", all(name in repr(read[name].steps) for name in names))
"""


def test_greenlets_keep_their_own_values_findings_and_markers() -> None:
    """Forty greenlets, each dump of which is interrupted by the others."""
    assert run(SCRIPT).splitlines() == [
        "own values: True",
        "own findings: True",
        "own markers: True",
    ]
