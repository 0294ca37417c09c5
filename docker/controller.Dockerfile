# The `elastic` command and its daemon, without torch: docker/README.md.
ARG BASE=python:3.11.14-slim-bookworm

# What everything is made with, and what elastic depends on. Changes with pyproject.toml.
FROM ${BASE} AS dependencies
ARG SOURCE_DATE_EPOCH=1577836800
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY docker/constraints.txt docker/
RUN python3 -m venv tools \
    && tools/bin/pip install --constraint docker/constraints.txt hatchling \
    && python3 -m venv --without-pip /opt/elastic
COPY pyproject.toml ./
COPY docker/compile.py docker/dependencies.py docker/
RUN python3 docker/dependencies.py controller > requirements.txt \
    && tools/bin/pip --python /opt/elastic/bin/python install \
        --constraint docker/constraints.txt --requirement requirements.txt \
    && /opt/elastic/bin/python docker/compile.py /opt/elastic/lib \
    && find /opt/elastic -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

# elastic itself, and the one directory that it may write. Changes with every change.
FROM dependencies AS elastic
ARG SOURCE_DATE_EPOCH=1577836800
COPY LICENSE README.md ./
COPY deploy deploy
COPY trainer trainer
COPY orchestrator orchestrator
COPY docker/moving.py /layer/share/elastic/
RUN tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir wheels . \
    && tools/bin/pip --python /opt/elastic/bin/python install --no-deps --no-index --prefix /layer wheels/*.whl \
    && /opt/elastic/bin/python docker/compile.py /layer/lib \
    && mkdir -p /home/elastic \
    && find /layer /home/elastic -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE}
COPY --from=dependencies /opt/elastic /opt/elastic
COPY --from=elastic --chown=10001:10001 /home/elastic /home/elastic
COPY --from=elastic /layer /opt/elastic
ENV PATH=/opt/elastic/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/home/elastic PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /home/elastic
# Nobody's number, on purpose without a name: it owns its home and nothing else.
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=4 \
    CMD ["python3", "/opt/elastic/share/elastic/moving.py"]
ENTRYPOINT ["elastic"]
CMD ["daemon"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="elastic controller" \
      org.opencontainers.image.description="The elastic command and its daemon, which starts, sizes and mends jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
