#!/usr/bin/env bash
# Sets up what is missing before `npm run demo`, `npm run bench`, `npm run sim` or `npm test` (argument: demo, bench, sim or test), and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:?demo, bench, sim or test}

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 1
}

# Managers run etcd themselves. Debian's package starts one of its own, which nothing here uses: not when it is installed now,
# and not at the next boot. An etcd that was there before is the operator's, and stays as it is.
keep_etcd_from_starting() {
  policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then return; fi
  printf '#!/bin/sh\n[ "$1" = etcd ] && exit 101\nexit 0\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
}
leave_no_etcd() {
  if [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now etcd
  else
    if [ -x /etc/init.d/etcd ]; then /etc/init.d/etcd stop >/dev/null 2>&1 || true; fi
    if command -v update-rc.d >/dev/null; then update-rc.d etcd disable >/dev/null 2>&1 || true; fi
  fi
  say "etcd-server is installed; its own service is off, for managers run etcd themselves"
}

node -e '
  const [major, minor] = process.versions.node.split(".").map(Number);
  process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1);
' || fail "Node.js 20.19 or newer is needed, this is $(node --version): see https://nodejs.org/en/download"

# What is called, and the Debian package that has it.
needed=(ip:iproute2 tc:iproute2 nsenter:util-linux nft:nftables conntrack:conntrack curl:curl dig:bind9-dnsutils etcd:etcd-server)
if [ "$purpose" = sim ]; then needed=(gcc:gcc gencat:libc6-dev); fi
if [ "$purpose" = test ]; then needed+=(wrk:wrk iperf3:iperf3 ping:iputils-ping tcpdump:tcpdump ethtool:ethtool git:git sysctl:procps iptables:iptables dockerd:docker.io faketime:faketime scapy:python3-scapy tshark:tshark); fi
if [ "$purpose" = test ] && ! docker compose version >/dev/null 2>&1; then needed+=(docker-compose:docker-compose); fi

packages=()
for entry in "${needed[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${entry%%:*}" >/dev/null || packages+=("${entry#*:}")
done
if [ ${#packages[@]} -gt 0 ]; then
  mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing ${packages[*]} with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if [[ " ${packages[*]} " == *" etcd-server "* ]]; then keep_etcd_from_starting; fi
    { apt-get update -q && apt-get install -q -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 || {
      tail -n 20 "$log" >&2
      fail "apt-get could not install ${packages[*]}"
    }
    rm -f "$log"
    if [[ " ${packages[*]} " == *" etcd-server "* ]]; then leave_no_etcd; fi
  elif [ "$purpose" = test ] && [ "$(id -u)" != 0 ]; then
    say "missing, and needed by the tests that need root: ${packages[*]}"
  else
    fail "install these first (Debian's names): ${packages[*]}"
  fi
fi

# Its members may use overlayctl as root may, and are as good as root.
if [ "$(id -u)" = 0 ] && ! getent group overlayd >/dev/null; then
  say "making the group overlayd"
  groupadd --system overlayd
fi

# npm writes node_modules/.package-lock.json when it has finished. Not `npm ci`: it refuses a lock file that lacks the
# optional packages of other platforms, and a registry that has not all of them makes such lock files.
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
  say "installing npm packages"
  npm install --no-save --ignore-scripts --loglevel=error
  touch node_modules/.package-lock.json
fi

say "building"
node scripts/build.mjs --clean
