# docker build --build-arg TORCH_INDEX=URL -t nc-refiner . && docker run --rm -v "$PWD:/work" nc-refiner nc-refiner refine --demo
#
# TORCH_INDEX is the package index of the PyTorch build you want, CPU or CUDA: the "Get started" page of PyTorch names
# them. Without it pip takes its default build, which on Linux is a CUDA one, several gigabytes large.
# With a CUDA build: docker run --rm --gpus all -v "$PWD:/work" nc-refiner nc-refiner refine in.mp4 out.mp4
FROM python:3.11-slim

ARG TORCH_INDEX=
ARG EXTRAS=evaluation,experiment,diffusers

WORKDIR /opt/nc_refiner
# torch first: what follows then changes nothing about which build is there.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==2.13.0"
COPY setup.py pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY nc_refiner nc_refiner
COPY integrations integrations
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"

RUN useradd --create-home refiner && mkdir /work && chown refiner /work
USER refiner
WORKDIR /work
CMD ["nc-refiner", "refine", "--demo"]
