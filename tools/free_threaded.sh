#!/bin/sh
# Build a Python without the GIL into a folder, from the source of Debian's suite trixie (SUITE).
#
#   tools/free_threaded.sh FOLDER [SOURCE]       SOURCE=python3.13 by default; some four minutes
#
# Root is not needed. A C compiler is, and the headers of OpenSSL, SQLite, zlib and libffi.
set -eu

suite=${SUITE:-trixie}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
source=${2:-python3.13}
. "$(dirname "$0")/other_suite.sh"
use_suite "$suite"
cd "$apt"
apt-get source -qq --download-only "$source"
tar --extract --strip-components 1 --one-top-level=python --file "${source}"_*.orig.tar.xz
cd python
./configure -q --disable-gil --prefix="$folder"
make -s -j "$(nproc)" >build.log 2>&1 || { tail -n 30 build.log >&2; exit 1; }
make -s altinstall >/dev/null 2>&1
