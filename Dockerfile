# The hub in one static binary.
#   docker build -t hubserver .
#   docker run -p 5984:5984 -v hub:/data -e LOVESEAT_ADMIN=ann:PASSWORD -e LOVESEAT_HOST=localhost hubserver
FROM node:22 AS page
WORKDIR /src/web
COPY web/plugin/tsconfig.json plugin/
COPY web/plugin/src plugin/src
COPY web/ui ui
RUN npm ci --prefix ui --no-audit --no-fund && npm run build --prefix ui

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=page /src/web/dist/ui web/dist/ui
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /hubserver ./cmd/hubserver \
 && mkdir /data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /hubserver /hubserver
COPY --from=build --chown=nonroot:nonroot /data /data
ENV LOVESEAT_ADDR=0.0.0.0:5984 LOVESEAT_DATA=/data LOVESEAT_LOG_JSON=true
VOLUME /data
EXPOSE 5984
STOPSIGNAL SIGTERM
ENTRYPOINT ["/hubserver"]
