"""Store the value, not the thread, request or process it came from.

`Guard` turns values into bytes for a cache or session, without what belongs to one thread,
request or process, and names each such field. The Django and Flask adapters are the packages
`contextcache_django` and `contextcache_flask`.
"""

from contextcache.base.logs import show_findings as show_findings
from contextcache.base.version import __version__ as __version__
from contextcache.config import Config as Config
from contextcache.exceptions import ConfigurationError as ConfigurationError
from contextcache.exceptions import ContextCacheError as ContextCacheError
from contextcache.exceptions import ReadOnlyServerError as ReadOnlyServerError
from contextcache.exceptions import ServerError as ServerError
from contextcache.exceptions import StrippedValueError as StrippedValueError
from contextcache.exceptions import UncacheableValueError as UncacheableValueError
from contextcache.exceptions import UnreadablePayloadError as UnreadablePayloadError
from contextcache.exceptions import UntrustedPayloadError as UntrustedPayloadError
from contextcache.findings.finding import Action as Action
from contextcache.findings.finding import Finding as Finding
from contextcache.findings.path import Path as Path
from contextcache.guard import Guard as Guard
from contextcache.payload.loading import is_sealed as is_sealed
from contextcache.payload.wire import RequestSnapshot as RequestSnapshot
from contextcache.payload.wire import Stripped as Stripped
from contextcache.payload.wire import is_stripped as is_stripped
from contextcache.reports.call_site import describe_view as describe_view
from contextcache.reports.reporter import summary as summary
from contextcache.reports.request_scope import RequestScope as RequestScope
from contextcache.reports.request_scope import current_scope as current_scope
from contextcache.reports.request_scope import enter_scope as enter_scope
from contextcache.reports.request_scope import exit_scope as exit_scope
from contextcache.rules.annotations import Allow as Allow
from contextcache.rules.annotations import LeaveOut as LeaveOut
from contextcache.rules.annotations import Recreate as Recreate
from contextcache.rules.annotations import Snapshot as Snapshot
from contextcache.rules.rule import Rule as Rule
from contextcache.rules.rule import Rules as Rules


def explain(value: object, *, label: str = "value") -> list[Finding]:
    """Find everything in `value` that cannot or should not be stored; changes nothing.

    Args:
        value: Any value.
        label: The root of the paths in it.
    """
    return Guard().explain(value, label=label)
