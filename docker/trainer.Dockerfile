# What the ranks of a job run in, with `resources.image`: docker/README.md.
ARG BASE=python:3.11.14-slim-bookworm

# A wheel of elastic. Changes with every change.
FROM ${BASE} AS wheel
ARG SOURCE_DATE_EPOCH=1577836800
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY docker/constraints.txt docker/
RUN python3 -m venv tools && tools/bin/pip install --constraint docker/constraints.txt hatchling
COPY LICENSE README.md pyproject.toml ./
COPY deploy deploy
COPY orchestrator orchestrator
COPY trainer trainer
RUN tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir wheel . \
    && touch --date="@${SOURCE_DATE_EPOCH}" wheel wheel/*.whl

FROM ${BASE}
# PyPI's torch is the one with CUDA, and brings all of it but the driver. Gigabytes, so it comes first and alone.
ARG TORCH="torch==2.15.0 torchvision==0.29.2"
ARG SOURCE_DATE_EPOCH=1577836800
COPY docker/compile.py /opt/elastic/share/elastic/
# hadolint ignore=DL3013,SC2086
RUN python3 -m venv /opt/elastic \
    && /opt/elastic/bin/pip install --disable-pip-version-check --no-cache-dir --no-compile ${TORCH} \
    && /opt/elastic/bin/python /opt/elastic/share/elastic/compile.py /opt/elastic/lib \
    && find /opt/elastic -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +
WORKDIR /tmp
COPY pyproject.toml /tmp/build/
COPY docker/constraints.txt docker/dependencies.py /tmp/build/docker/
RUN python3 build/docker/dependencies.py trainer > build/requirements.txt \
    && /opt/elastic/bin/pip install --disable-pip-version-check --no-cache-dir --no-compile \
        --constraint build/docker/constraints.txt --requirement build/requirements.txt \
    && /opt/elastic/bin/python /opt/elastic/share/elastic/compile.py /opt/elastic/lib \
    && rm -r build
COPY --from=wheel /build/wheel /tmp/wheel
RUN /opt/elastic/bin/pip install --disable-pip-version-check --no-cache-dir --no-compile --no-deps --no-index wheel/*.whl \
    && /opt/elastic/bin/python /opt/elastic/share/elastic/compile.py /opt/elastic/lib \
    && rm -r wheel
# An agent gives ranks a directory of their own to work in, and /tmp; the image is read-only to them.
ENV PATH=/opt/elastic/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
# The agent watches every rank: how it ends, and that its steps go on.
HEALTHCHECK NONE
CMD ["python", "-m", "trainer", "--help"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="elastic trainer" \
      org.opencontainers.image.description="Mean Teacher in PyTorch, as a rank of an elastic job runs it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
