# MinIO's last community release, built from its source: the images that were published are gone. Development and tests
# alone: it gets no more fixes (docs: any S3 server that passes the start-up probe will do).
FROM golang:1.26-bookworm AS build
ARG MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
ENV CGO_ENABLED=0 GOFLAGS=-trimpath
# The module proxy and the checksum database pin the source to this version's hash.
RUN go install -ldflags "-s -w" "github.com/minio/minio@${MINIO_VERSION}"
WORKDIR /ready
RUN printf '%s\n' \
        'package main' \
        'import ("net/http"; "os")' \
        'func main() {' \
        '    answer, err := http.Get("http://127.0.0.1:9000/minio/health/ready")' \
        '    if err != nil || answer.StatusCode != 200 { os.Exit(1) }' \
        '}' > main.go \
    && go mod init ready && go build -ldflags "-s -w" -o /go/bin/minio-ready .

FROM gcr.io/distroless/static-debian12
COPY --from=build /go/bin/minio /go/bin/minio-ready /usr/local/bin/
VOLUME /data
EXPOSE 9000
ENTRYPOINT ["/usr/local/bin/minio", "server", "/data", "--address", ":9000"]
