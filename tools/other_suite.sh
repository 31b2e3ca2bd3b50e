# Sourced by scripts: `use_suite SUITE` lets apt read the packages and sources of another suite of
# Debian, from the mirror and with the settings of this machine's apt. Its state is in the folder $apt,
# which is removed at the end; nothing of the machine is changed, and root is not needed.

use_suite() {
    grep -qx 'ID=debian' /etc/os-release 2>/dev/null || {
        echo "this is not Debian: please get Python in the way of this system (pyenv, brew, dnf)" >&2
        exit 1
    }
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v -m 1 security)
    apt=$(mktemp -d)
    trap 'rm -rf "$apt"' EXIT
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    for kind in deb deb-src; do
        echo "$kind [signed-by=$keyring] $mirror $1 main"
    done >"$apt/sources.list"
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
}
