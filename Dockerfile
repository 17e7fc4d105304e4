# A static image that runs without root. Build: docker build --build-arg VERSION=1.0.0 -t gantry .
FROM golang:1.26-bookworm AS build
ARG VERSION=dev
ARG TAGS=disable_grpc_modules
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -tags "$TAGS" -ldflags "-s -w -X main.version=$VERSION" -o /out/usr/bin/gantry ./cmd/gantry && \
    install -D -m 0644 internal/packaging/etc/gantry.json /out/etc/gantry/gantry.json && \
    install -d -m 0750 /out/var/lib/gantry /out/srv/gantry && install -d -m 1777 /out/tmp && \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt && \
    printf 'gantry:x:1000:1000::/var/lib/gantry:/sbin/nologin\n' >/out/etc/passwd && \
    chown -R 1000:1000 /out/var/lib/gantry /out/srv/gantry

FROM scratch
COPY --from=build /out/ /
USER 1000:1000
WORKDIR /var/lib/gantry
ENV HOME=/var/lib/gantry
VOLUME ["/var/lib/gantry", "/srv/gantry"]
EXPOSE 2022
HEALTHCHECK --interval=30s --timeout=6s CMD ["/usr/bin/gantry", "ping", "-c", "/var/lib/gantry"]
ENTRYPOINT ["/usr/bin/gantry"]
CMD ["serve", "-c", "/var/lib/gantry", "--log-file-path="]
