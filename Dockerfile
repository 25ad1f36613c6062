# The container image of oxybold: two stages, packages by hash, runs as any user without network.
# How to build and run it: docs/how-to/containers.md. oxybold.def has the same steps for Apptainer.
# A release passes BASE with a digest.
ARG BASE=debian:bookworm-slim

# --- packages ------------------------------------------------------------------------------
FROM ${BASE} AS builder
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY requirements-build.lock requirements-app.lock ./
# wheels are fetched or built by hash, then installed without index; pip stays outside
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --require-hashes -r requirements-build.lock \
 && /opt/build/bin/pip wheel --quiet --require-hashes --no-build-isolation -w /wheels -r requirements-app.lock \
 && python3 -m venv --without-pip /opt/oxybold \
 && /opt/build/bin/pip --python /opt/oxybold/bin/python install --quiet --no-index --no-deps /wheels/*.whl
COPY . .
# bytecode is compiled here: a user who is not root could never write it
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation -w /app . \
 && /opt/build/bin/pip --python /opt/oxybold/bin/python install --quiet --no-index --no-deps /app/*.whl \
 && /opt/build/bin/pip --python /opt/oxybold/bin/python check \
 && /opt/oxybold/bin/python -m compileall -q -j 0 /opt/oxybold/lib

# --- image ---------------------------------------------------------------------------------
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=builder /opt/oxybold /opt/oxybold

ARG VERSION=0.1.0
ARG REVISION=unknown
ENV PATH=/opt/oxybold/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    NO_ET=1 \
    NIPYPE_NO_ET=1 \
    MPLCONFIGDIR=/tmp \
    OXYBOLD_CONTAINER=docker:oxybold:${VERSION}

# fails here rather than at the first participant
RUN oxybold --version \
 && python3 -c 'import ants, formulaic, nilearn, nipype, scipy, bids_app.workflows.app'

LABEL org.opencontainers.image.title="oxybold" \
      org.opencontainers.image.description="BIDS App: oxygen metabolism from quantitative BOLD and ASL, with its uncertainty, and BOLD concordance labels" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["oxybold"]
