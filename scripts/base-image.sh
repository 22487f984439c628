#!/usr/bin/env bash
# Makes the image that the Dockerfiles begin with, where no registry has it to pull: from this Debian machine's own
# packages and its Node.js, under the name that the Dockerfiles use. Does nothing where the image is there or can be pulled.
set -euo pipefail
image=node:22-bookworm-slim

say() { echo "base-image: $*"; }
fail() {
  say "$*" >&2
  exit 1
}

# What the image has of itself, and what the Dockerfile installs: there apt-get finds it and needs no mirror.
wanted=(apt base-files base-passwd bash ca-certificates coreutils dash debianutils diffutils dpkg findutils grep gzip
  hostname libc-bin libc6 login mawk mount ncurses-base passwd perl-base sed sysvinit-utils tar util-linux
  libstdc++6 libatomic1 bind9-dnsutils conntrack curl etcd-server iproute2 iptables nftables)
# Tells an image that was made here from the pulled one, and from one that was made of something else. Containers inherit
# it: it must be no label that the agent follows.
made=base-image.packages
of=$(sha256sum <<<"${wanted[*]}" | cut -c 1-12)

case $(docker image inspect --format "{{.Config.Env}} $made={{index .Config.Labels \"$made\"}}" "$image" 2>/dev/null) in
  *NODE_VERSION=* | *"$made=$of") exit 0 ;;
esac
timeout 60 docker pull -q "$image" >/dev/null 2>&1 && exit 0
command -v dpkg-query >/dev/null || fail "$image can neither be pulled nor made: this is no Debian"
say "$image cannot be pulled: making it from this machine's packages and Node.js $(node --version)"

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

# Those that are installed, with all that they depend on.
apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
  --no-enhances "${wanted[@]}" | grep -oE '^[a-z0-9][^ :]*' | sort -u >"$directory/names"
dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${binary:Package}\n' | awk '$1 == "ii"' |
  awk 'NR == FNR { names[$1]; next } $2 in names { print $3 }' "$directory/names" - >"$directory/packages"

root=$directory/root
mkdir -p "$root"/{etc,tmp,root,proc,sys,dev,run,var/lib/dpkg/info,var/cache/apt/archives/partial,var/lib/apt/lists/partial,var/log}
chmod 1777 "$root/tmp"
for link in /bin /sbin /lib /lib64; do [ ! -L "$link" ] || cp -a "$link" "$root/"; done

# Their files as they are here, documentation aside; then what their installation made.
{
  xargs -a "$directory/packages" dpkg -L | grep -vE '^/usr/share/(doc|man|locale|info|lintian)/|^diverted by|^/\.$|^locally|^package '
  find /etc/alternatives /etc/ssl/certs /etc/apt /usr/share/keyrings \( -type f -o -type l \)
  find /usr/bin /usr/sbin -lname '/etc/alternatives/*'
  printf '%s\n' /etc/ld.so.cache /etc/ld.so.conf /etc/passwd /etc/group /etc/shells /usr/local/share/ca-certificates
} | if [ -L /bin ]; then sed -E 's#^/(bin|sbin|lib|lib32|lib64|libx32)/#/usr/\1/#'; else cat; fi | sort -u |
  while read -r path; do [ ! -e "$path" ] && [ ! -L "$path" ] || echo ".$path"; done >"$directory/files"
tar -C / -c --no-recursion --ignore-failed-read -T "$directory/files" | tar -x -C "$root"
awk 'BEGIN { RS = ""; ORS = "\n\n" } NR == FNR { split($0, lines, "\n"); for (i in lines) names[lines[i]]; next }
  { match($0, /^Package: [^\n]+/); if (substr($0, 10, RLENGTH - 9) in names) print }' \
  <(sed 's/:.*//' "$directory/packages") /var/lib/dpkg/status >"$root/var/lib/dpkg/status"
while read -r package; do cp "/var/lib/dpkg/info/$package".* "$root/var/lib/dpkg/info/"; done <"$directory/packages"

mkdir -p "$root/usr/local/bin" "$root/usr/local/lib/node_modules"
cp "$(readlink -f "$(command -v node)")" "$root/usr/local/bin/node"
npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
cp -r "$npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"

# Certificates that only this machine trusts are wanted where the image is built: Node.js has a list of its own.
tar -C "$root" -c . | docker import \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' \
  --change "LABEL $made=$of" \
  --change 'CMD ["node"]' - "$image" >/dev/null
say "made $image, $(docker image inspect --format '{{.Size}}' "$image" | numfmt --to=si)B"
