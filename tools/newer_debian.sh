#!/bin/sh
# Unpack packages of a newer suite of Debian into a folder, and make their programs run there.
#
#   tools/newer_debian.sh FOLDER PACKAGE...      SUITE=forky by default
#
# Nothing on the machine is installed or changed and root is not needed: apt gets a state of its own
# and only downloads, and each program is told to use the C library that came with it. The mirror and
# all other settings are those of this machine's apt.
set -eu

suite=${SUITE:-forky}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
grep -qx 'ID=debian' /etc/os-release 2>/dev/null || {
    echo "this is not Debian: please install $* in the way of this system (pyenv, brew, dnf)" >&2
    exit 1
}
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v -m 1 security)

apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<CONF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$apt";
Dir::State::Status "$apt/status";
Dir::Cache "$apt/cache";
Debug::NoLocking "true";
APT::Sandbox::User "$(id -un)";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
APT_CONFIG=$apt/apt.conf
export APT_CONFIG
apt-get update -qq
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
