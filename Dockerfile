# The agent and overlayctl. `docker build -t overlayd .`; docker-compose.yml shows what a container of it needs.
FROM node:22-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
# Not `npm ci`: it refuses a lock file that lacks the optional packages of other platforms.
RUN npm install --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts/build.mjs scripts/bundle.mjs scripts/bundle-start.cjs scripts/compile-bundle.cjs scripts/
COPY src src
RUN node scripts/build.mjs && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && find node_modules \( -name '*.map' -o -name '*.md' -o -name '*.d.ts' \) -type f -delete

FROM node:22-bookworm-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends bind9-dnsutils conntrack curl etcd-server iproute2 iptables nftables \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/overlayd
COPY --from=build /src/package.json ./
COPY --from=build /src/node_modules node_modules
COPY --from=build /src/dist/bin dist/bin
COPY scripts/container.sh ./
RUN ln -s /opt/overlayd/dist/bin/overlayd.js /usr/local/bin/overlayd \
  && ln -s /opt/overlayd/dist/bin/overlayctl.js /usr/local/bin/overlayctl
ENTRYPOINT ["/opt/overlayd/container.sh"]
