# The relay and nothing else, but for the CAs that its operator's commands may need. Built
# by packaging/images, which puts the files of `image/` beside this file.
#
#   docker run -d --name sternline-relay --restart unless-stopped --stop-timeout 40 \
#       -p 443:443 -p 8000:8000 -p 8000:8000/udp \
#       -v sternline-relay:/var/lib/sternline-relay IMAGE serve --public-name relay.example.com
#   docker exec sternline-relay sternline-relay env add berlin
#
# The drain of a stop takes up to 20 s, more than Docker waits unless told.
FROM scratch
ARG VERSION
ARG COMMIT
ARG CREATED
LABEL org.opencontainers.image.title="sternline-relay" \
      org.opencontainers.image.description="Agents dial it, operators reach their environments through it" \
      org.opencontainers.image.vendor="Sternline" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.source="https://github.com/sternline/sternline" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}"
COPY image/usr /usr
COPY image/etc /etc
# A volume that is made from this folder belongs to the relay. `docker exec` runs the
# operator's commands with a folder for their sockets.
COPY --chown=65532:65532 image/state /var/lib/sternline-relay
COPY --chown=65532:65532 image/state /tmp
USER 65532:65532
VOLUME /var/lib/sternline-relay
EXPOSE 443/tcp 8000/tcp 8000/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=3 \
    CMD ["/usr/bin/sternline-relay", "health"]
ENTRYPOINT ["/usr/bin/sternline-relay"]
CMD ["serve"]
