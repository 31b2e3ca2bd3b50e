#!/bin/sh
# Print the path of an interpreter of a version of Python, where there is one: tools/find_python.sh 3.14
# With a `t` one without the GIL, as its own programs are called: tools/find_python.sh 3.14t
number=${1%t}
pythons=${PYTHONS:-$HOME/.cache/contextcache-pythons}
for python in "python$1" "$HOME/.pyenv/versions/$number".*/bin/python "$pythons/usr/bin/python$1" "$pythons/free-threaded/bin/python$1"; do
    "$python" -c "
import sys, sysconfig
if bool(sysconfig.get_config_var('Py_GIL_DISABLED')) is not sys.argv[1].endswith('t'):
    sys.exit(1)
print(sys.executable)" "$1" 2>/dev/null && exit
done
echo "Python $1 is not on this machine: make pythons" >&2
exit 1
