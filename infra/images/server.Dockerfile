# syntax=docker/dockerfile:1
# The image of one server: API, functions and the engine whose jobs are processes beside them.
# It is the training image with what serves: build that first, and name it here.
ARG TRAINING
FROM ${TRAINING}
USER root
COPY . /src
RUN python -m pip install --no-cache-dir -c /src/constraints.txt "/src[local,train-pytorch]" \
    && rm -rf /src \
    && install -d -o mlops -g mlops /data
USER 10001:10001
VOLUME /data
WORKDIR /data
ENTRYPOINT ["mlops"]
CMD ["up", "--home", "/data", "--port", "8080"]
