# Two images from one wheel:
#   docker build --target worker  -t flamingo-worker .     the workers of a Beam job (Dataflow, Flink, Spark)
#   docker build --target trainer -t flamingo-trainer .    the `flamingo` command with torch
# The Python of the workers must be the Python that submits the job: --build-arg PYTHON_VERSION=3.12 for another.
# BEAM_VERSION is what constraints.txt pins; a test compares them.

ARG PYTHON_VERSION=3.11
ARG BEAM_VERSION=2.77.0

FROM python:${PYTHON_VERSION}-slim-trixie AS builder
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY pipeline pipeline
COPY flamingo_model flamingo_model
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# The entry point stays the base image's /opt/apache/beam/boot: it starts the worker, whatever the runner.
FROM apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION} AS worker
COPY constraints.txt /opt/flamingo/
COPY --from=builder /wheels /opt/flamingo/wheels
# The wheel is named by its path, so that no index can put another package of this name in its place.
RUN wheel="$(ls /opt/flamingo/wheels/*.whl)" \
    && pip install --no-cache-dir --constraint /opt/flamingo/constraints.txt "flamingo-data[dataflow] @ file://${wheel}" \
    && cd / && python -c "import apache_beam, flamingo_model, pipeline, schemas"

FROM python:${PYTHON_VERSION}-slim-trixie AS trainer
# torch.compile builds its kernels' launchers with the system's C compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /opt/flamingo/
COPY --from=builder /wheels /opt/flamingo/wheels
RUN wheel="$(ls /opt/flamingo/wheels/*.whl)" \
    && pip install --no-cache-dir --constraint /opt/flamingo/constraints.txt "flamingo-data[train] @ file://${wheel}" \
    && cd / && python -c "import torch, flamingo_model, pipeline, schemas"
RUN useradd --create-home --uid 1000 flamingo
USER flamingo
WORKDIR /home/flamingo
ENTRYPOINT ["flamingo"]
CMD ["--help"]
