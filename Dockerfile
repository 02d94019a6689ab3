# The bridge alone: `wabridge run`. The sandbox and the tests are for clones, not for images.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/wabridge
COPY requirements.lock pyproject.toml README.md LICENSE ./
# One lock file for everything; what only the sandbox and the tests need is not installed:
# the lock serves as constraints here, and the wheel's own metadata says what is needed.
RUN sed -E 's/ *\\$//; /^ +--hash/d; /^ *#/d' requirements.lock > constraints.txt
COPY bridge bridge
RUN /opt/wabridge/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt .

FROM python:3.12-slim-bookworm
RUN useradd --system --create-home --home-dir /var/lib/wabridge wabridge
COPY --from=build /opt/wabridge /opt/wabridge
ENV PATH=/opt/wabridge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    WABRIDGE_STATE_DIR=/var/lib/wabridge/state
USER wabridge
WORKDIR /var/lib/wabridge
VOLUME /var/lib/wabridge/state
STOPSIGNAL SIGTERM
ENTRYPOINT ["wabridge"]
CMD ["run"]
