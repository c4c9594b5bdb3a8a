# The serving image: interpreter, hash-locked runtime dependencies, three packages. No trainer, no compiler, no pip.
#
#   docker build -t clickserve:0.1.0 .
#   docker build -t clickserve:0.1.0 --build-arg BASE_IMAGE=debian:bookworm-slim .   # any Debian root will do
#
# It runs as uid 10001 with a read-only root: the service writes to /tmp and to the volume /var/lib/clickserve only.
ARG BASE_IMAGE=python:3.11-slim-bookworm


# What both stages stand on. The same interpreter at the same path in both lets the virtual environment be copied.
FROM ${BASE_IMAGE} AS base
# The official Python images bring all three; a plain Debian root (where no image registry is to be had) brings none.
RUN command -v python3 >/dev/null || { \
        apt-get update \
        && apt-get install -y --no-install-recommends ca-certificates python3 tzdata \
        && apt-get clean \
        && rm -rf /var/lib/apt/lists/*; \
    }


# Everything that needs tools happens here: pip with a second environment, gcc for the kernels.
FROM base AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        gcc libc6-dev \
        $(python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv) \
        $(test -e "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || echo python3-dev) \
    && rm -rf /var/lib/apt/lists/*
# pip stays in /opt/tools and installs into /opt/venv from outside, so the runtime image has none to exploit.
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/venv

# Dependencies before code: editing a module rebuilds the last layers only.
COPY requirements/runtime.lock /tmp/runtime.lock
# Libraries bring their own tests, 17 MB of them.
RUN /opt/tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/runtime.lock \
    && find /opt/venv -depth -type d -name tests -exec rm -r {} +

# The `clickserve` command and its version: a wheel without modules, because the import names are too general for one.
# setuptools comes from the full lock, hash and all, so that building the wheel fetches nothing unverified.
COPY requirements/all.lock /tmp/all.lock
RUN awk '/^setuptools==/ { found = 1 } found { print } found && !/\\$/ { exit }' /tmp/all.lock > /tmp/build.lock \
    && /opt/tools/bin/pip install --no-cache-dir --require-hashes -r /tmp/build.lock
COPY LICENSE README.md pyproject.toml /src/
RUN /opt/tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /tmp/wheel /src \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl

COPY feature_store/ /app/feature_store/
COPY models/ /app/models/
COPY service/ /app/service/
# The compiled kernels, each beside its source. A checkout does without them where no compiler is; an image must not.
RUN cp /src/pyproject.toml /app/ && cd /app \
    && /opt/tools/bin/python -c 'from setuptools import setup; setup()' --quiet build_ext --inplace \
    && for source in $(find . -name '_*.c'); do ls "${source%.c}".*.so; done \
    && rm -rf build pyproject.toml && find . -name '*.[ch]' -delete
# Now, because the root is read-only later. Unchecked: the files under the byte code cannot change.
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app


# Locust in an image of its own: it shares the base and nothing else. The scenario is mounted at /app/loadtest, so editing
# it needs no build:  docker build --target loadtest -t clickserve-loadtest:0.1.0 .
FROM builder AS loadtest-builder
RUN python3 -m venv --without-pip /opt/loadtest
COPY requirements/loadtest.lock /tmp/loadtest.lock
RUN /opt/tools/bin/pip --python /opt/loadtest/bin/python install --no-cache-dir --require-hashes -r /tmp/loadtest.lock

FROM base AS loadtest
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin clickserve
COPY --from=loadtest-builder /opt/loadtest /opt/loadtest
ENV PATH=/opt/loadtest/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
EXPOSE 8089
ENTRYPOINT ["locust"]


# Last, so that a plain `docker build .` makes it.
FROM base AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clickserve" \
      org.opencontainers.image.description="Low-latency click-through-rate prediction and ranking" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A fixed number, so that a volume or a Kubernetes security context can name it.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin clickserve \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/clickserve /var/lib/clickserve/registry /var/lib/clickserve/items
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /app /app
# ORT_DISABLE_TELEMETRY: from 1.31 on ONNX Runtime's Linux wheel starts an upload thread and writes a device id to the
# home directory at import (microsoft/onnxruntime pull request 27379); a server's requests are nobody else's business.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    CLICKSERVE_SERVER__HOST=0.0.0.0 \
    CLICKSERVE_SERVER__PORT=8080 \
    CLICKSERVE_REGISTRY__DIR=/var/lib/clickserve/registry \
    CLICKSERVE_ITEMS__SNAPSHOT_DIR=/var/lib/clickserve/items
WORKDIR /app
USER 10001:10001
VOLUME ["/var/lib/clickserve"]
# The admin port (metrics, promote) stays on loopback until a bearer token is configured, so it is not exposed here.
EXPOSE 8080
# /livez and not /readyz: a service that drains or waits is not ready, and restarting it would not help.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['CLICKSERVE_SERVER__PORT'] + '/livez', timeout=2).close()"]
# The parent fails /readyz first, keeps accepting for server.drain_ms, answers what it has read, then exits 0.
STOPSIGNAL SIGTERM
ENTRYPOINT ["clickserve"]
CMD ["serve"]
