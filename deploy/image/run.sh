#!/bin/sh
# Runs a program of an image that build.sh made, closed as the containers of docker-compose.yml are.
set -eu

usage() {
    cat <<'HELP'
usage: deploy/image/run.sh [options] [--] [ARGUMENT…]

Runs an image of deploy/image/build.sh without a container engine: own process and mount tree, root file system
read-only, the image's own user, no capability and no way to one. The network is the host's; the service listens on
loopback only. SIGTERM and SIGINT reach the service, and its exit status is this program's.
Needs root (for the mounts), buildah and util-linux. Memory and CPU are not bounded: systemd-run or an engine does that.

  ARGUMENT…                 instead of the image's own (the service: serve)
  --image NAME              default: localhost/clickserve:VERSION
  --registry DIR            published models, mounted read-only where the service looks for them
  -e, --env NAME=VALUE      one more environment variable; NAME alone takes the caller's value
  -v, --volume DIR:PATH[:ro]    mount a file or folder of the host; without it every volume of the image is empty memory
  --entrypoint PROGRAM      run another program of the image
  --tmp-size SIZE           of /tmp, in memory (64m)

  REDIS_URL=redis://127.0.0.1:6379/0 deploy/image/run.sh --registry .clickserve/demo/registry -e REDIS_URL
HELP
}

say() { echo "run.sh: $*" >&2; }
fail() { say "$*"; exit 1; }
newline='
'

# Second half: process 1 of its own process tree, in its own mount tree, still root. ROOT, RUN_AS, WORKDIR, TMP_SIZE,
# MOUNTS, VOLUMES and ENVIRONMENT come from the first half in the environment, which only root can read; the arguments,
# which everybody can, are the command.
inside() {
    mount --bind "$ROOT" "$ROOT"
    mkdir -p "$ROOT${WORKDIR:=/}"    # an image may name a folder that only a mount makes
    mount -t proc -o nosuid,nodev,noexec proc "$ROOT/proc"
    mount -o bind,ro /sys "$ROOT/sys"
    mount -t tmpfs -o nosuid,mode=755,size=64k tmpfs "$ROOT/dev"
    for device in null zero full random urandom tty; do
        : >"$ROOT/dev/$device"
        mount --bind "/dev/$device" "$ROOT/dev/$device"
    done
    ln -s /proc/self/fd "$ROOT/dev/fd"
    mkdir "$ROOT/dev/shm"
    mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=64m tmpfs "$ROOT/dev/shm"
    mount -t tmpfs -o "nosuid,nodev,mode=1777,size=$TMP_SIZE" tmpfs "$ROOT/tmp"
    for file in /etc/hosts /etc/resolv.conf; do
        [ -e "$file" ] && { [ -e "$ROOT$file" ] || : >"$ROOT$file"; } && mount -o bind,ro "$file" "$ROOT$file"
    done
    IFS=$newline
    for volume in $VOLUMES; do
        mkdir -p "$ROOT$volume"
        mount -t tmpfs -o "nosuid,nodev,mode=750,uid=${RUN_AS%%:*},gid=${RUN_AS##*:},size=64m" tmpfs "$ROOT$volume"
    done
    for each in $MOUNTS; do
        source=${each%%:*} options=bind
        place=${each#*:}
        case $place in *:ro) place=${place%:ro} options=bind,ro ;; esac
        if [ -d "$source" ]; then
            mkdir -p "$ROOT$place"
        else
            mkdir -p "$(dirname "$ROOT$place")"
            : >>"$ROOT$place"
        fi
        mount -o "$options" "$source" "$ROOT$place"
    done
    set -f
    set -- $ENVIRONMENT "$@"
    unset IFS
    mount -o remount,bind,ro "$ROOT"
    exec chroot "$ROOT" setpriv --reuid="${RUN_AS%%:*}" --regid="${RUN_AS##*:}" --clear-groups --no-new-privs \
        --bounding-set=-all --inh-caps=-all --pdeathsig keep env -i --chdir="$WORKDIR" "$@"
}
if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
fi

image='' entrypoint='' tmp_size=64m mounts='' extra='' registry=''
while [ $# -gt 0 ]; do
    case $1 in
        --image | --registry | --env | -e | --volume | -v | --entrypoint | --tmp-size)
            [ $# -gt 1 ] || { say "$1 needs a value"; usage >&2; exit 2; } ;;
    esac
    case $1 in
        --image) image=$2; shift 2 ;;
        --registry) registry=$2; shift 2 ;;
        -e | --env)
            case $2 in
                *=*) extra=$extra$2$newline ;;
                *) extra="$extra$2=$(printenv "$2" || fail "--env $2: not set")$newline" ;;
            esac
            shift 2 ;;
        -v | --volume)
            case $2 in *:/*) ;; *) say "--volume $2: expected DIR:/PATH or DIR:/PATH:ro"; exit 2 ;; esac
            [ -e "${2%%:*}" ] || fail "--volume $2: ${2%%:*} does not exist"
            mounts="$mounts$(realpath "${2%%:*}"):${2#*:}$newline"; shift 2 ;;
        --entrypoint) entrypoint=$2; shift 2 ;;
        --tmp-size) tmp_size=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        --) shift; break ;;
        -*) say "unknown option $1; arguments of the service come after --"; exit 2 ;;
        *) break ;;
    esac
done

for program in buildah unshare setpriv; do
    command -v $program >/dev/null || fail "$program is missing; Debian: apt-get install --no-install-recommends buildah util-linux"
done
[ "$(id -u)" = 0 ] || fail "needs root for the mounts; what runs inside is the image's own user"
project=$(dirname "$0")/../../pyproject.toml
[ -n "$image" ] || image=localhost/clickserve:$(sed -n 's/^version = "\(.*\)"$/\1/p' "$project")
if [ -n "$registry" ]; then
    [ -d "$registry" ] || fail "--registry $registry: no such folder; make demo leaves one in .clickserve/demo/registry"
fi

buildah inspect --type image "$image" >/dev/null 2>&1 || fail "no image $image; deploy/image/build.sh makes it"
container=$(buildah from --pull-never "$image")
trap 'buildah rm "$container" >/dev/null' EXIT
config() { buildah inspect --format "{{$1}}" "$container"; }
ROOT=$(buildah mount "$container")
RUN_AS=$(config .OCIv1.Config.User)
WORKDIR=$(config .OCIv1.Config.WorkingDir)
VOLUMES=$(config 'range $path, $_ := .OCIv1.Config.Volumes}}{{println $path}}{{end')
case $RUN_AS in *[!0-9:]* | *:*:* | '' | 0 | 0:*) fail "the image's user is ${RUN_AS:-root}; expected uid:gid, not root" ;; esac

environment=$(config 'range .OCIv1.Config.Env}}{{println .}}{{end')$newline
if [ -n "$registry" ]; then
    place=$(printf %s "$environment" | sed -n 's/^CLICKSERVE_REGISTRY__DIR=//p')
    mounts="$mounts$(realpath "$registry"):${place:?the image names no registry}:ro$newline"
fi
MOUNTS=$mounts TMP_SIZE=$tmp_size
# The later one of two equal names counts. Other machines do not reach what listens on loopback.
ENVIRONMENT=${environment}CLICKSERVE_SERVER__HOST=127.0.0.1$newline$extra
export ROOT RUN_AS WORKDIR VOLUMES MOUNTS TMP_SIZE ENVIRONMENT

IFS=$newline
set -f
if [ -n "$entrypoint" ]; then
    set -- "$entrypoint" "$@"
else
    [ $# -gt 0 ] || set -- $(config 'range .OCIv1.Config.Cmd}}{{println .}}{{end')
    set -- $(config 'range .OCIv1.Config.Entrypoint}}{{println .}}{{end') "$@"
fi
unset IFS
set +f

# Whatever becomes of this shell: the service ends with it.
setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --propagation private sh "$0" --inside "$@" &
child=$!
forward() {
    # Its only child is process 1 inside. Before that is there, nothing else can be meant than the start itself.
    first=$(cat "/proc/$child/task/$child/children" 2>/dev/null) || return 0
    kill -s "$1" ${first:-"$child"}
}
trap 'forward TERM' TERM
trap 'forward INT' INT
status=0
while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
done
exit "$status"
