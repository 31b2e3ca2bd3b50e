#!/bin/sh
# Install the newest wheel of dist/ alone, with [django] and with [flask], each into an environment of
# its own, and import what it has: tools/try_wheel.sh PYTHON
set -eu
python=$1
wheel=$(ls -t "$PWD"/dist/*.whl | head -n 1)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

try() {
    extra=$1
    shift
    "$python" -m venv "$scratch/venv$extra"
    "$scratch/venv$extra/bin/python" -m pip install -qq --disable-pip-version-check \
        "contextcache-web$extra @ file://$wheel"
    "$scratch/venv$extra/bin/python" -m pip check --disable-pip-version-check >"$scratch/check" \
        || { cat "$scratch/check" >&2; exit 1; }
    (cd "$scratch" && "venv$extra/bin/python" -W error -c "
import importlib, importlib.resources as files, platform, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    package = name.partition('.')[0]
    assert files.files(package).joinpath('py.typed').is_file(), package
from contextcache.commands.code_pages import page
from contextcache.reports.html import document
assert page('CC102') and '</style>' in document('', '', '') and 'fetch(' in document('', '', '')
print('Python', platform.python_version(), 'installed and imported', *sys.argv[1:])
" "$@")
    "$scratch/venv$extra/bin/contextcache" explain CC102 >/dev/null
}

try "" contextcache
try "[django]" contextcache contextcache_django.serializers contextcache_django.middleware
try "[flask]" contextcache contextcache_flask
