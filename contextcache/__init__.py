"""Store the value, not the thread, request or process it came from.

`Guard` turns values into bytes for a cache or session, without what belongs to one thread,
request or process, and names each such field. The Django and Flask adapters are the packages
`contextcache_django` and `contextcache_flask`.
"""

from contextcache.config import Config as Config
from contextcache.exceptions import ConfigurationError as ConfigurationError
from contextcache.exceptions import ContextCacheError as ContextCacheError
from contextcache.exceptions import ReadOnlyServerError as ReadOnlyServerError
from contextcache.exceptions import ServerError as ServerError
from contextcache.exceptions import StrippedValueError as StrippedValueError
from contextcache.exceptions import UncacheableValueError as UncacheableValueError
from contextcache.exceptions import UnreadablePayloadError as UnreadablePayloadError
from contextcache.exceptions import UntrustedPayloadError as UntrustedPayloadError
from contextcache.findings import Action as Action
from contextcache.findings import Finding as Finding
from contextcache.guard import Guard as Guard
from contextcache.loading import is_sealed as is_sealed
from contextcache.logs import show_findings as show_findings
from contextcache.markers import Allow as Allow
from contextcache.markers import LeaveOut as LeaveOut
from contextcache.markers import Recreate as Recreate
from contextcache.markers import Snapshot as Snapshot
from contextcache.origins import describe_view as describe_view
from contextcache.paths import Path as Path
from contextcache.reporting import summary as summary
from contextcache.rules import Rule as Rule
from contextcache.rules import Rules as Rules
from contextcache.scopes import RequestScope as RequestScope
from contextcache.scopes import current_scope as current_scope
from contextcache.scopes import enter_scope as enter_scope
from contextcache.scopes import exit_scope as exit_scope
from contextcache.standins import RequestSnapshot as RequestSnapshot
from contextcache.standins import Stripped as Stripped
from contextcache.standins import is_stripped as is_stripped


def explain(value: object, *, label: str = "value") -> list[Finding]:
    """Find everything in `value` that cannot or should not be stored; changes nothing.

    Args:
        value: Any value.
        label: The root of the paths in it.
    """
    return Guard().explain(value, label=label)
