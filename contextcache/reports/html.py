"""Findings and writes as HTML: the one look of the panels and of the development page.

Everything that comes from an application is escaped, and nothing is loaded from elsewhere. Colours
are mixed from the colour of the text around them, so that they suit a light page and a dark one.
"""

from __future__ import annotations

import pkgutil
from html import escape
from typing import TYPE_CHECKING, Any

from contextcache.base.words import format_size, pluralize, silence_line
from contextcache.findings.finding import SILENT
from contextcache.findings.path import Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from contextcache.findings.finding import Finding
    from contextcache.reports.request_scope import Write

MAX_VIEWS = 3  # that are named for one field

Row = dict[str, Any]
"""A finding or a write as plain data, such as a debug toolbar keeps in its store."""


def _file(name: str) -> str:
    """Return a file of the folder `static`, also from a zip file."""
    return (pkgutil.get_data("contextcache.reports", f"static/{name}") or b"").decode()


STYLE = _file("panel.css")


def finding_row(
    finding: Finding, *, silence: str = 'CONTEXTCACHE["IGNORE"] += []', also: Sequence[str] = ()
) -> Row:
    """Return what a page shows of `finding`, as plain data.

    Args:
        finding: Any finding.
        silence: The line that silences, where the last `[]` stands for the patterns; see `Config`.
        also: Other views in which this field was found.
    """
    return {
        "code": finding.code,
        "path": str(finding.path),
        "leaf_type": finding.leaf_type,
        "verdict": "should not be stored" if finding.code in SILENT else "cannot be stored",
        "reason": finding.reason,
        "at": " · ".join(filter(None, (finding.origin, finding.sink))),
        "also": _listed(also),
        "field": finding.field,
        "did": finding.did,
        "fix": finding.fix,
        "patch": getattr(finding, "patch", ""),
        "silence": silence_line(silence, [finding.path.pattern]),
        "count": finding.count,
    }


def finding_rows(findings: Iterable[Finding], *, silence: str) -> list[Row]:
    """Return one row for each field, with its count, however many items have it.

    Args:
        findings: The findings of a request.
        silence: As that of `finding_row`.
    """
    rows: dict[tuple[str, str], Row] = {}
    for finding in findings:
        row = finding_row(finding, silence=silence)
        rows.setdefault((row["code"], row["silence"]), {**row, "count": 0})["count"] += 1
    return list(rows.values())


def write_row(write: Write) -> Row:
    """Return what a page shows of `write`, as plain data."""
    return {
        "label": str(Path(write.label, hidden=write.hidden)),
        "sink": write.sink,
        "size": write.size,
        "seconds": write.seconds,
        "outcome": write.outcome + _found(write),
        "state": "lost" if not write.stored else "cut" if write.findings else "",
    }


def _found(write: Write) -> str:
    if not (write.stored and write.findings):
        return ""
    return f", {pluralize(write.findings, 'finding')}"


def findings(rows: Iterable[Mapping[str, Any]], *, copying: bool = False) -> str:
    """Return findings as HTML.

    Args:
        rows: What `finding_row` returned.
        copying: Whether the page has a script for buttons that copy.
    """
    told: list[str] = []
    patches: set[str] = set()
    for row in rows:
        told.append(_finding(row, copying, known=row["patch"] in patches))
        patches.add(row["patch"])
    return "".join(told) or _none("Nothing found.")


def writes(rows: Sequence[Mapping[str, Any]], *, requests: bool = False) -> str:
    """Return writes as an HTML table.

    Args:
        rows: What `write_row` returned.
        requests: Whether each has its `request`, too.
    """
    if not rows:
        return _none("Nothing was written to a cache or session.")
    titles = (["request"] if requests else []) + ["key", "where", "outcome"]
    head = "".join(f"<th>{title}</th>" for title in titles)
    head += '<th class="number">size</th><th class="number">time</th>'
    body = "".join(_write(row, requests) for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _finding(row: Mapping[str, Any], copying: bool, *, known: bool) -> str:
    count = f'<span class="count">{int(row["count"])}×</span>' if row["count"] > 1 else ""
    also = f'<div class="also">{escape(row["also"])}</div>' if row["also"] else ""
    told = f"<dt>where</dt><dd>{escape(row['at'] or '–')}{also}</dd>"
    if row["field"]:
        where, _, source = row["field"].partition(": ")
        line = f"<pre>{escape(source)}</pre>" if source else ""
        told += f"<dt>field</dt><dd><code>{escape(where)}</code>{line}</dd>"
    told += f"<dt>result</dt><dd>{escape(row['did'])}</dd>"
    button = '<button type="button" data-copy>copy</button>' if copying else ""
    patch = ""
    if row["patch"] and known:  # one piece of code mends all fields of a class
        patch = '<div class="also">the code above does it</div>'
    elif row["patch"]:
        patch = f'<div class="patch"><pre>{escape(row["patch"])}</pre>{button}</div>'
    told += f'<dt>fix</dt><dd><span class="fix">{escape(row["fix"])}</span>{patch}</dd>'
    told += (
        f'<dt>silence</dt><dd class="silence"><code>{escape(row["silence"])}</code>{button}</dd>'
    )
    return (
        f'<article><div class="head"><span class="code">{escape(row["code"])}</span>'
        f'<code class="path">{escape(row["path"])}</code>{count}</div>'
        f'<p class="why">A <code>{escape(row["leaf_type"])}</code> {escape(row["verdict"])}: '
        f"{escape(row['reason'])}.</p><dl>{told}</dl></article>"
    )


def _write(row: Mapping[str, Any], requests: bool) -> str:
    request = f"<td>{escape(row['request'])}</td>" if requests else ""
    size = "–" if row["size"] is None else format_size(row["size"])
    return (
        f'<tr class="{escape(row["state"])}">{request}<td><code>{escape(row["label"])}</code></td>'
        f'<td>{escape(row["sink"])}</td><td class="outcome">{escape(row["outcome"])}</td>'
        f'<td class="number">{size}</td>'
        f'<td class="number">{row["seconds"] * 1000:.2f} ms</td></tr>'
    )


def _listed(views: Sequence[str]) -> str:
    if not views:
        return ""
    more = f" and {len(views) - MAX_VIEWS} more" if len(views) > MAX_VIEWS else ""
    return f"also {', '.join(views[:MAX_VIEWS])}{more}"


def _none(text: str) -> str:
    return f'<p class="none">{text}</p>'


# --- The page of a process ------------------------------------------------------------------------


def document(title: str, body: str, nonce: str) -> str:
    """Return a whole page that needs nothing but itself.

    Args:
        title: Plain text.
        body: HTML.
        nonce: The random text by which a content security policy knows our style and script.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        '<link rel="icon" href="data:,">'
        f'<style nonce="{escape(nonce)}">{_file("page.css")}{STYLE}</style></head>'
        f'<body><main class="contextcache">{body}</main>'
        f'<script nonce="{escape(nonce)}">{_file("page.js")}</script></body></html>\n'
    )
