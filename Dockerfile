# mammo-d2 in a container, without root rights.
#   docker build -t mammo_d2 .                                        # with CUDA: pip's torch brings it
#   docker build -t mammo_d2:cpu --build-arg TORCH_INDEX=<index of the CPU builds of torch> .
#   docker run --rm --network none -v "$PWD/exams:/data/exams:ro" -v "$PWD/out:/data/out" mammo_d2 \
#       predict /data/exams --output /data/out/predictions
#   docker run --rm --gpus all --shm-size 8g -v ... mammo_d2 train --config-file ...
FROM python:3.12-slim

ARG TORCH_INDEX=""
COPY . /opt/mammo_d2
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision; fi \
    && pip install --no-cache-dir "/opt/mammo_d2[fast,excel,search]" \
    && rm -rf /opt/mammo_d2 \
    && useradd --create-home mammo
USER mammo
WORKDIR /data
# One thread a process unless told otherwise: containers often share a machine.
ENV OMP_NUM_THREADS=1
ENTRYPOINT ["mammo-d2"]
CMD ["--help"]
