# The container image of oxybold: two stages, packages by hash, runs as any user without network.
#   docker build -t oxybold .
#   docker run --rm --network none --read-only --tmpfs /tmp -u "$(id -u):$(id -g)" \
#     -v BIDS_DIR:/data:ro -v OUTPUT_DIR:/out oxybold /data /out participant
# A release passes BASE with a digest.
ARG BASE=debian:bookworm-slim

# --- packages ------------------------------------------------------------------------------
FROM ${BASE} AS builder
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1

WORKDIR /src
COPY requirements-build.lock requirements-app.lock ./
# pip compiles bytecode: a user who is not root could never write it
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --require-hashes -r requirements-build.lock \
 && python3 -m venv /opt/oxybold \
 && /opt/oxybold/bin/pip install --quiet --require-hashes -r requirements-app.lock
COPY . .
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/oxybold/bin/pip install --quiet --no-deps /wheels/*.whl \
 && /opt/oxybold/bin/python -m compileall -q -j 0 /opt/oxybold/lib \
 && /opt/oxybold/bin/pip check \
 && rm -rf /opt/oxybold/bin/pip* /opt/oxybold/lib/python3*/site-packages/pip \
      /opt/oxybold/lib/python3*/site-packages/pip-*

# --- image ---------------------------------------------------------------------------------
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=builder /opt/oxybold /opt/oxybold

# /tmp is the home of whoever runs it; nothing else is written but the output
ENV PATH=/opt/oxybold/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NO_ET=1 NIPYPE_NO_ET=1 \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
    MPLBACKEND=Agg MPLCONFIGDIR=/tmp \
    LOGNAME=app USER=app HOME=/tmp \
    LANG=C.UTF-8 \
    OXYBOLD_CONTAINER=docker:oxybold

# fails here rather than at the first participant
RUN oxybold --version \
 && python3 -c 'import ants, bids, nilearn, nipype, scipy, bids_app.workflows.app'

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="oxybold" \
      org.opencontainers.image.description="BIDS App: oxygen metabolism from quantitative BOLD and ASL, with its uncertainty, and BOLD concordance labels" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["oxybold"]
