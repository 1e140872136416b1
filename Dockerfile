# Targets: cpu, cuda, cuda-compiler, loadtest. Build from the repository's root:
#
#   docker build --target cpu -t llm-service:0.1.0 .
#   docker build --target cuda -t llm-service:0.1.0-cuda .
#
# checkov:skip=CKV_DOCKER_7: the default of BASE_IMAGE carries a tag
# BASE_IMAGE must have Python 3.11, with venv, as `python3`. A build secret named pip.conf, if given,
# configures pip while packages are installed; no layer keeps it.
ARG BASE_IMAGE=python:3.11-slim-trixie
# The CPU build's version of vLLM: 0.32.0, or another one that has a stage of pins below.
ARG VLLM_VERSION=0.32.0
# The CUDA runtime comes with torch's own pinned wheels and the driver from the node; a base image with
# a CUDA runtime works too.
ARG CUDA_BASE_IMAGE=${BASE_IMAGE}

# ---- The service as a wheel; the build backend stays here.
FROM ${BASE_IMAGE} AS wheel
WORKDIR /src
COPY requirements/hashed-build.txt requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \
    python3 -m venv /build \
    && /build/bin/python -m pip install --quiet --no-cache-dir --no-deps --require-hashes \
        -r requirements/hashed-build.txt
COPY pyproject.toml README.md LICENSE NOTICE THIRD_PARTY.md ./
COPY service service
RUN /build/bin/python -m pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

# ---- The pins of the CPU build, by vLLM's version.
FROM scratch AS pins-0.31.0
COPY requirements/vllm-0.31.0.txt /cpu.txt
COPY requirements/hashed-vllm-0.31.0.txt /hashed-cpu.txt

FROM scratch AS pins-0.32.0
COPY requirements/cpu.txt requirements/hashed-cpu.txt /

# hadolint ignore=DL3006
FROM pins-${VLLM_VERSION} AS pins

# ---- Packages of the CPU build, pinned by hash; torch's hashes differ by index, so pass them as arguments.
FROM ${BASE_IMAGE} AS cpu-packages
WORKDIR /src
ARG TORCH_INDEX=
ARG TORCH_SHA256=
ARG TORCHVISION_SHA256=
ENV PIP_NO_CACHE_DIR=1 VIRTUAL_ENV=/opt/llm-service PATH=/opt/llm-service/bin:$PATH
COPY requirements/install.sh requirements/hashed-uv.txt requirements/
COPY --from=pins /cpu.txt /hashed-cpu.txt requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \
    python3 -m venv /opt/llm-service \
    && requirements/install.sh /opt/llm-service/bin/python requirements/cpu.txt requirements/hashed-cpu.txt

# ---- Packages of the CUDA build, pinned by hash.
FROM ${CUDA_BASE_IMAGE} AS cuda-packages
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 VIRTUAL_ENV=/opt/llm-service PATH=/opt/llm-service/bin:$PATH
COPY requirements/hashed-cuda.txt requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \
    python3 -m venv /opt/llm-service \
    && python -m pip install --quiet --no-deps --require-hashes -r requirements/hashed-cuda.txt

# ---- The load tests, without an engine.
FROM ${BASE_IMAGE} AS loadtest-packages
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 VIRTUAL_ENV=/opt/llm-service PATH=/opt/llm-service/bin:$PATH
COPY requirements/hashed-loadtest.txt requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \
    python3 -m venv /opt/llm-service \
    && python -m pip install --quiet --no-deps --require-hashes -r requirements/hashed-loadtest.txt \
    && python -m pip check

FROM ${BASE_IMAGE} AS loadtest
COPY --from=loadtest-packages /opt/llm-service /opt/llm-service
COPY loadtests /opt/loadtests/loadtests
COPY LICENSE NOTICE THIRD_PARTY.md /usr/share/doc/llm-service/
WORKDIR /opt/loadtests
ENV PATH=/opt/llm-service/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="llm-service load tests" \
      org.opencontainers.image.licenses="Apache-2.0"
# The load tests end by themselves and open no port.
HEALTHCHECK NONE
USER 10001:10001
ENTRYPOINT ["python", "-m", "loadtests"]
CMD ["--help"]

# ---- Base of both services.
# vLLM binds its threads through libnuma.
FROM ${BASE_IMAGE} AS cpu-base
# The base image decides the version.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*

# Triton compiles its launchers with a C compiler when it first runs a kernel, so only this image has one.
FROM ${CUDA_BASE_IMAGE} AS cuda-base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
# CUDA 13.0 needs driver 580.65.06; NVIDIA's runtime refuses to start a container on an older one.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility NVIDIA_REQUIRE_CUDA="cuda>=13.0"

FROM cuda-base AS cuda
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin llm \
    && install --directory --owner 10001 --group 10001 /adapters
# Gigabytes first: a layer stays in registries and on nodes until it, or one before it, changes.
COPY --from=cuda-packages /opt/llm-service /opt/llm-service
ARG BAKED=LICENSE
COPY --chmod=755 ${BAKED} /opt/baked/
# The driver lies in /usr/local/nvidia where a device plugin mounts it (GKE); kernels that NVRTC compiles
# load its libraries from the wheels. A user without a name (OpenShift's) has no folder of its own for
# what torch compiles.
ENV PATH=/opt/llm-service/bin:$PATH HOME=/tmp USER=llm XDG_CACHE_HOME=/tmp/cache VLLM_CACHE_ROOT=/tmp/cache/vllm \
    TRITON_CACHE_DIR=/tmp/cache/triton TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/opt/llm-service/lib/python3.11/site-packages/nvidia/cu13/lib \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python -m pip install --quiet --no-cache-dir --no-deps --no-index /wheels/*.whl
COPY LICENSE NOTICE THIRD_PARTY.md /usr/share/doc/llm-service/
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llm-service (CUDA)" \
      org.opencontainers.image.description="One base model on vLLM and LoRA adapters of it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The only folders that the service writes to; all else may be read-only.
VOLUME ["/tmp", "/adapters"]
EXPOSE 8000 8001
USER 10001:10001
WORKDIR /tmp
# The engine's start takes longer with larger weights, so only a service that hangs later is unhealthy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8001/livez', timeout=4)"]
STOPSIGNAL SIGTERM
# The service itself is process 1, so SIGTERM reaches it and it drains.
ENTRYPOINT ["llm-service"]
CMD ["serve", "--config", "/etc/llm-service/config.yaml"]

# ---- The same with all that compiles CUDA's kernels (docs/howto/gpu.md); no test builds it.
# nvcc, ptxas, the headers and ninja are in the pinned wheels. FlashInfer's linker looks for lib64, for libcudart without
# a number, and for the driver's library, in whose place there is an empty one until the driver's own is mounted.
FROM cuda AS cuda-compiler
USER 0:0
WORKDIR /opt/llm-service/lib/python3.11/site-packages/nvidia/cu13
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && ln -s lib lib64 \
    && ln -s libcudart.so.13 lib/libcudart.so \
    && mkdir lib/stubs \
    && gcc -shared -Wl,-soname,libcuda.so.1 -o lib/stubs/libcuda.so -x c /dev/null
ENV CUDA_HOME=/opt/llm-service/lib/python3.11/site-packages/nvidia/cu13 FLASHINFER_WORKSPACE_BASE=/tmp/cache
USER 10001:10001
WORKDIR /tmp

FROM cpu-base AS cpu
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin llm \
    && install --directory --owner 10001 --group 10001 /adapters
COPY --from=cpu-packages /opt/llm-service /opt/llm-service
ARG BAKED=LICENSE
COPY --chmod=755 ${BAKED} /opt/baked/
ENV PATH=/opt/llm-service/bin:$PATH HOME=/tmp XDG_CACHE_HOME=/tmp/cache VLLM_CACHE_ROOT=/tmp/cache/vllm \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python -m pip install --quiet --no-cache-dir --no-deps --no-index /wheels/*.whl
COPY LICENSE NOTICE THIRD_PARTY.md /usr/share/doc/llm-service/
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llm-service (CPU)" \
      org.opencontainers.image.description="One base model on vLLM and LoRA adapters of it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
VOLUME ["/tmp", "/adapters"]
EXPOSE 8000 8001
USER 10001:10001
WORKDIR /tmp
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8001/livez', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["llm-service"]
CMD ["serve", "--config", "/etc/llm-service/config.yaml"]
