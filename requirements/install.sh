#!/bin/sh
# Makes .venv from requirements/all.lock and installs the checkout into it. Does nothing when that is already so.
# Needs Python 3.11 to 3.14, its venv module and libgomp (LightGBM); on Debian and Ubuntu installs the latter two when
# run as root, and otherwise prints the one command that does.
set -eu
cd "$(dirname "$0")/.."
stamp=.venv/.installed
sources=$(find models feature_store service -name '*.[ch]' | LC_ALL=C sort)
wanted=$(cat requirements/all.lock requirements/spark.lock pyproject.toml requirements/install.sh $sources | sha256sum | cut -d' ' -f1)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }
python=
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
    if fits "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "clickserve needs Python 3.11 to 3.14; set PYTHON=/path/to/python3.x" >&2
    exit 1
fi

missing=
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    missing="$missing python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
"$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || missing="$missing libgomp1"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
    else
        echo "missing system packages; install them with: sudo apt-get install -y$missing" >&2
        exit 1
    fi
fi

echo "installing into .venv (once; about 800 MB)"
[ -x .venv/bin/python ] && fits .venv/bin/python || { rm -rf .venv; "$python" -m venv .venv; }
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.lock
# A kernel that cannot be built must be absent, not of older sources: then its twin in Python serves.
find models feature_store service -name '_*.so' -delete
# No build isolation: it would fetch unhashed packages; setuptools is in the lock.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
# Spark is 450 MB, and nothing without Java.
if command -v java >/dev/null; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --require-hashes -r requirements/spark.lock
fi
echo "$wanted" > "$stamp"
