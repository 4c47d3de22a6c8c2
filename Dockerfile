# syntax=docker/dockerfile:1
# Build: docker build -t crossfade .      Run: docs/operations.md, "In a container"
#
# Nothing is taken from an index without its hash standing in requirements.lock: the first stage downloads
# exactly the locked wheels, and the program is then installed from those files alone, without an index.

FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
RUN python -m pip wheel --no-cache-dir --no-deps --only-binary :all: --require-hashes --wheel-dir /wheels -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy ./proxy
# The compiled form (docs/performance.md). What building it takes, pip finds among the same wheels.
RUN HATCH_BUILD_HOOK_ENABLE_MYPYC=1 python -m pip wheel --no-cache-dir --no-deps --no-index --find-links /wheels --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/crossfade \
    && python -m pip --python /opt/crossfade/bin/python install --no-cache-dir --no-index --find-links /wheels "crossfade[edge]"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --no-create-home crossfade \
    && install -d -o crossfade -g crossfade -m 0750 /var/lib/crossfade
COPY --from=build /opt/crossfade /opt/crossfade
ENV PATH=/opt/crossfade/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CROSSFADE_CONFIG=/etc/crossfade/crossfade.yaml
USER 10001:10001
# data_dir is relative to this: the journal must outlive the container.
WORKDIR /var/lib/crossfade
VOLUME ["/var/lib/crossfade"]
# REST and gRPC of the application, and probes (if the configuration has them there).
EXPOSE 6333 6334 7701
# The control API answers on loopback in every configuration that keeps its default address.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7700/livez', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["crossfade"]
CMD ["serve"]
