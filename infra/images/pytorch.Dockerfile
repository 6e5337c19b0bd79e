# syntax=docker/dockerfile:1
# The image that trains with PyTorch, on SageMaker, on AWS Batch and on a machine of one's own.
# Build and push it with infra/images/build.sh; context is the repository.

# PyTorch's wheels bring CUDA's libraries: "base" adds what the driver's container runtime reads.
# Renew: docker buildx imagetools inspect nvidia/cuda:TAG --format '{{.Manifest.Digest}}'
ARG BASE=nvidia/cuda:13.0.2-base-ubuntu24.04@sha256:2ab6381d970b211fb93853796dc6707eb8a72575a375c422b17cf4d8b2641701

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/mlops
# The frameworks change seldom, the project often: each has a layer of its own.
# TORCH_INDEX: https://download.pytorch.org/whl/cu126 and the like, for older drivers, or .../cpu.
ARG TORCH_INDEX=
COPY constraints.txt /src/
RUN /opt/mlops/bin/pip install -c /src/constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE /src/
RUN mkdir /src/mlops /src/stac_api /src/functions /src/training /src/cli /src/infra \
    && /opt/mlops/bin/pip install -c /src/constraints.txt "/src[train-pytorch,aws]"
COPY mlops /src/mlops
COPY stac_api /src/stac_api
COPY functions /src/functions
COPY training /src/training
COPY cli /src/cli
COPY infra /src/infra
RUN /opt/mlops/bin/pip install --no-deps --force-reinstall /src \
    && /opt/mlops/bin/python -m compileall -q /opt/mlops/lib

FROM ${BASE}
# libgomp: OpenMP, which PyTorch and ONNX Runtime load; libexpat: GDAL in rasterio's wheels.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 libgomp1 libexpat1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mlops \
    && install -d -o mlops -g mlops /opt/ml
COPY --from=build /opt/mlops /opt/mlops
ENV PATH=/opt/mlops/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HOME=/tmp
USER 10001:10001
WORKDIR /tmp
# The agent is the first process and gets SIGTERM itself. SageMaker adds the argument `train`.
ENTRYPOINT ["python", "-m", "training.job"]
