#!/bin/sh
# Builds the image of the Dockerfile with buildah, on a machine that has neither Docker nor an image registry.
set -eu
cd "$(dirname "$0")/../.."

usage() {
    cat <<'HELP'
usage: deploy/image/build.sh [--target STAGE] [--tag NAME] [--fresh]

Builds the Dockerfile with buildah, each step in a chroot: no daemon, no image registry, works inside a container.
Needs root, buildah and, for the base, debootstrap (Debian: apt-get install --no-install-recommends buildah debootstrap).
Prints the image's name last. deploy/image/run.sh runs it; `podman run` and `buildah push` find it too.

  --target STAGE  runtime (default) or loadtest
  --tag NAME      default: localhost/clickserve:VERSION, localhost/clickserve-loadtest:VERSION
  --fresh         make the base anew (newer security fixes) and use no layer of an earlier build

Environment, all optional:
  BASE_IMAGE        start from this image; without it a minimal Debian is made with debootstrap
  DEBIAN_SUITE      its release (bookworm)
  DEBIAN_MIRROR     where debootstrap fetches packages from (its own default)
  DEBIAN_SECURITY   where security fixes come from (DEBIAN_MIRROR followed by -security)
  BUILD_CA          a file of CA certificates that pip and apt trust during the build, where packages come through
                    a proxy (PIP_CERT, if that is set); mounted, so that the image keeps an empty file at most
  BUILD_PIP_CONF    a pip.conf for the build, for an index of your own; mounted likewise
  http_proxy, https_proxy, no_proxy     reach every step of the build
  CONTAINERS_STORAGE_CONF, STORAGE_DRIVER, BUILDAH_ISOLATION     buildah's own: where and how images are kept
HELP
}

say() { echo "build.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

target=runtime tag='' fresh=''
while [ $# -gt 0 ]; do
    case $1 in
        --target | --tag) [ $# -gt 1 ] || { usage >&2; exit 2; } ;;
    esac
    case $1 in
        --target) target=$2; shift 2 ;;
        --tag) tag=$2; shift 2 ;;
        --fresh) fresh=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        *) say "unknown argument $1"; usage >&2; exit 2 ;;
    esac
done
BUILD_CA=${BUILD_CA:-${PIP_CERT:-}}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
case $target in
    runtime) tag=${tag:-localhost/clickserve:$version} ;;
    loadtest) tag=${tag:-localhost/clickserve-loadtest:$version} ;;
    *) say "unknown stage $target: runtime and loadtest are images"; exit 2 ;;
esac

command -v buildah >/dev/null || fail "buildah is missing; Debian: apt-get install --no-install-recommends buildah"
[ "$(id -u)" = 0 ] || fail "needs root: a chroot and the owners of a root file system cannot be made without it"
for file in ${BUILD_CA:+"$BUILD_CA"} ${BUILD_PIP_CONF:+"$BUILD_PIP_CONF"}; do
    [ -r "$file" ] || fail "cannot read $file; BUILD_CA and BUILD_PIP_CONF name files"
done

scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A minimal Debian with its security fixes, kept as an image for the next build.
make_base() {
    command -v debootstrap >/dev/null ||
        fail "debootstrap is missing (Debian: apt-get install --no-install-recommends debootstrap); or name a BASE_IMAGE"
    suite=${DEBIAN_SUITE:-bookworm}
    base=localhost/clickserve-base:$suite
    [ -z "$fresh" ] && buildah inspect --type image "$base" >/dev/null 2>&1 && return
    say "making $base with debootstrap"
    root=$scratch/root
    debootstrap --variant=minbase "$suite" "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$scratch/log" 2>&1 ||
        { tail -20 "$scratch/log" >&2; fail "debootstrap failed; DEBIAN_MIRROR=${DEBIAN_MIRROR:-} is where it looked"; }
    mirror=$(sed -n 's/^deb \([^ ]*\) .*/\1/p' "$root/etc/apt/sources.list" | head -1)
    echo "deb ${DEBIAN_SECURITY:-$mirror-security} $suite-security main" >>"$root/etc/apt/sources.list"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$root" / >/dev/null
    step "$container" 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get upgrade -qy && apt-get clean
        rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/*.log /var/log/apt'
    buildah commit --quiet --rm "$container" "$base" >/dev/null
}

# Runs a line of shell in a container under construction, with what the build mounts.
step() { eval "buildah run --isolation \"\${BUILDAH_ISOLATION:-chroot}\" $mounts -- \"\$1\" sh -ec \"\$2\"" >&2; }

# Files that steps see and the image does not keep. pip reads both places, the second one over the first.
mounts=
offer() { mounts="$mounts --volume '$(realpath "$1")':'$2':ro"; }
if [ -n "$BUILD_CA" ]; then
    offer "$BUILD_CA" /run/build-ca.crt
    printf '[global]\ncert = /run/build-ca.crt\n' >"$scratch/pip.conf"
    offer "$scratch/pip.conf" /etc/xdg/pip/pip.conf
    echo 'Acquire::https::CaInfo "/run/build-ca.crt";' >"$scratch/apt.conf"
    offer "$scratch/apt.conf" /etc/apt/apt.conf.d/90build-ca
fi
[ -z "${BUILD_PIP_CONF:-}" ] || offer "$BUILD_PIP_CONF" /etc/pip.conf

base=${BASE_IMAGE:-}
[ -n "$base" ] || make_base
say "building $tag on $base"
# Docker's own format, because the OCI format has no HEALTHCHECK.
eval "buildah build --isolation \"\${BUILDAH_ISOLATION:-chroot}\" --format docker ${fresh:+--no-cache} --layers \
    --target \"\$target\" --tag \"\$tag\" --build-arg BASE_IMAGE=\"\$base\" \
    --build-arg REVISION=\"\$(git rev-parse HEAD 2>/dev/null || echo unknown)\" $mounts --file Dockerfile ." >&2
echo "$tag"
