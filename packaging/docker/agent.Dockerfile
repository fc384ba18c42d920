# The agent and nothing else: a static program needs no distribution. Built by
# packaging/images, which puts the files of `image/` beside this file.
#
#   docker run -d --name sternline-agent --restart unless-stopped --network host \
#       --read-only --cap-drop ALL --group-add "$(stat -c %g /var/run/docker.sock)" \
#       -v /var/run/docker.sock:/var/run/docker.sock \
#       -v sternline-agent:/var/lib/sternline-agent -e STERNLINE_TOKEN=stl1_… IMAGE
#
# The group is the one that the Docker Engine's socket belongs to: the agent is no root.
# A policy is mounted: -v /etc/sternline-agent:/etc/sternline-agent:ro
FROM scratch
ARG VERSION
ARG COMMIT
ARG CREATED
LABEL org.opencontainers.image.title="sternline-agent" \
      org.opencontainers.image.description="Dials out to the vendor's relay, and never listens" \
      org.opencontainers.image.vendor="Sternline" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.source="https://github.com/sternline/sternline" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}"
COPY image/usr /usr
# A volume that is made from this folder belongs to the agent.
COPY --chown=65532:65532 image/state /var/lib/sternline-agent
USER 65532:65532
VOLUME /var/lib/sternline-agent
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/usr/bin/sternline-agent", "status", "--healthcheck"]
ENTRYPOINT ["/usr/bin/sternline-agent"]
CMD ["run"]
