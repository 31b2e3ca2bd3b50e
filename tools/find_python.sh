#!/bin/sh
# Print the path of an interpreter of a version of Python, where there is one: tools/find_python.sh 3.14
for python in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python "${PYTHONS:-$HOME/.cache/contextcache-pythons}/usr/bin/python$1"; do
    "$python" -c "import sys; print(sys.executable)" 2>/dev/null && exit
done
echo "Python $1 is not on this machine: make pythons" >&2
exit 1
