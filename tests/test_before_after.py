"""The reports on `docs/before-after.md`: each fails as it did, and is told what to do about it."""

from __future__ import annotations

import re

import pytest

from tools.before_after import PAGE, REPORTS, Report, now, surroundings, then

SILENT = {"django/django!5276", "googleapis/google-auth-library-python#1509"}
NOT_STORED = {  # the value itself is what cannot be stored
    "Suor/django-cacheops#101",
    "bogdal/sentry-youtrack#16",
    "grantjenks/python-diskcache!358",
    "sqlalchemy/dogpile.cache#235",
    "pallets-eco/flask-caching#262",
    "turicas/rows#349",
}


def test_the_page_has_every_report() -> None:
    """At least eighty, each with a link."""
    told = re.findall(r"^## \[(.+?)\]\((.+?)\)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert told == [(one.id, one.url) for one in REPORTS]
    assert len(REPORTS) >= 80


@pytest.mark.parametrize("one", REPORTS, ids=lambda one: one.id)
def test_a_report_then_and_now(one: Report) -> None:
    """Stock pickle fails, or stores what it should not; now field, reason and remedy are named."""
    with surroundings():
        before = then(one.build())
        after = now(one.build(), one.label)
    assert before.startswith("(nothing: ") is (one.id in SILENT)
    assert after.stored is (one.id not in NOT_STORED)
    assert after.log
    for finding in after.findings:
        assert str(finding.path).startswith(one.label)
        assert finding.fix
    assert "s3cret" not in str(after)
    assert "hash" not in str(after).replace("password hash", "")
