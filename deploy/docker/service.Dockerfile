# One recipe for every service:
#   docker build -f deploy/docker/service.Dockerfile --build-arg SERVICE=secret-svc -t bizosaas/secret-svc:dev .
# On a network with a certificate authority of its own add: --secret id=ca,src=/path/to/ca.crt (nothing of it stays in the image).
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
ARG SERVICE
ENV UV_COMPILE_BYTECODE=1 UV_NO_EDITABLE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /src
COPY pyproject.toml requirements.lock ./
# uv at the lock's version. The lock has no hash of its wheels, since a marker there keeps it out of the services (CrewAI names it).
RUN --mount=type=secret,id=ca,required=false --mount=type=cache,target=/root/.cache \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --disable-pip-version-check --only-binary :all: "$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
COPY libs libs
COPY services/${SERVICE} services/${SERVICE}
# The lock is a constraint and not the list: the image holds what this service asks for, at the locked versions and hashes.
RUN --mount=type=secret,id=ca,required=false --mount=type=cache,target=/root/.cache \
    test -n "${SERVICE}" || { echo "say which service: --build-arg SERVICE=secret-svc" >&2; exit 1; }; \
    if [ -s /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    python3 -m venv --without-pip /opt/bizos \
    && /opt/uv/bin/uv pip install --python /opt/bizos --verify-hashes --constraint requirements.lock "./services/${SERVICE}" \
    && printf '#!/bin/sh\nexec python -m %s "$@"\n' "$(echo "${SERVICE}" | tr - _)" > /opt/bizos/bin/service \
    && chmod 755 /opt/bizos/bin/service
COPY deploy/docker/probe.py /opt/bizos/probe.py

FROM ${PYTHON}
ARG SERVICE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bizosaas ${SERVICE}" \
      org.opencontainers.image.description="BizOSaaS, the service ${SERVICE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A name for the number, since some libraries ask who they run as. Only /tmp is written to, so the rest may be read-only;
# and, where a volume is mounted there, /var/lib/bizos.
RUN useradd --uid 10001 --user-group --create-home --home-dir /home/bizos --shell /usr/sbin/nologin bizos \
    && install -d -o 10001 -g 10001 /var/lib/bizos
COPY --from=build /opt/bizos /opt/bizos
ENV PATH=/opt/bizos/bin:$PATH \
    HOME=/home/bizos \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BIZOS_HOST=0.0.0.0 \
    BIZOS_HEALTH_PORT=8080
USER 10001:10001
WORKDIR /home/bizos
EXPOSE 8000 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/bizos/probe.py", "/livez"]
ENTRYPOINT ["/opt/bizos/bin/service"]
