#!/bin/sh
# Unpack packages of a newer suite of Debian into a folder, and make their programs run there.
#
#   tools/newer_debian.sh FOLDER PACKAGE...      SUITE=forky by default
#
# Nothing on the machine is installed or changed and root is not needed: apt only downloads, and each
# program is linked to the C library of that suite.
set -eu

suite=${SUITE:-forky}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
. "$(dirname "$0")/other_suite.sh"
use_suite "$suite"
apt-get install -qq -y --download-only "$@" patchelf >"$apt/log" || { cat "$apt/log" >&2; exit 1; }
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder"
done

loader=$(find "$folder"/usr/lib/*/ -maxdepth 1 -name 'ld-linux*.so.*')
libraries=$(dirname "$loader")
for program in "$folder"/usr/bin/*; do
    # Python's is an executable at a fixed address, whose sections must stay in their order.
    if [ ! -L "$program" ] && [ "${program##*/}" != patchelf ] && head -c 4 "$program" | grep -q ELF; then
        "$loader" --library-path "$libraries" "$folder/usr/bin/patchelf" --no-sort \
            --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$program"
    fi
done
# Debian's venv takes pip from /usr/share, where there may be another or none.
find "$folder"/usr/lib/python3.* -maxdepth 1 -name '_sysconfig*' -exec \
    sed -i "s,\"/usr/share/python-wheels,\"$folder/usr/share/python-wheels,; s,'/usr/share/python-wheels,'$folder/usr/share/python-wheels," {} + \
    2>/dev/null || true
