#!/bin/sh
# The agent in a container, with /etc/overlayd.yaml. Where the container is stopped, its network ends, and with it every
# link of the node: so nothing is kept for the next start, and tasks do not stay behind. After a crash they do: the
# container is started again, by its restart policy, and the agent adopts them.
#
# OVERLAYD_INIT=DIRECTORY has a node that is in no cluster begin one. The tokens are left in the directory, which other
# containers may mount: there `cluster.join.tokenFile` finds one. Where tokens are and the node's data are not, a cluster
# was begun before and its data are missing: then none is begun.
set -u
config=/etc/overlayd.yaml
tokens=${OVERLAYD_INIT:-}

# Docker shows /proc/sys for reading only; the settings of this network namespace are the agent's to make.
mount -o remount,rw,bind /proc/sys || exit 1

# Prints why not, where the node's agent does not give the token.
write_token() {
  overlayctl join-token --quiet "$1" 2>&1 >"$tokens/.$1" && mv "$tokens/.$1" "$tokens/$1"
}

begin() {
  umask 077
  mkdir -p "$tokens" || return
  until problem=$(write_token worker && write_token manager); do
    case $problem in
      *"in no cluster"*)
        if [ -e "$tokens/worker" ]; then
          echo "container.sh: $tokens has the tokens of a cluster, but this node is in none: mount its data at /var/lib/overlayd, or remove the tokens to begin another cluster" >&2
          return
        fi
        overlayctl init >/dev/null || return # it prints a token, which is for no log
        ;;
    esac
    sleep 0.2
  done
}

overlayd --config "$config" &
agent=$!
[ -z "$tokens" ] || begin &
stopped=
trap 'stopped=yes; kill -TERM "$agent"' TERM INT
wait "$agent"
status=$?
# A signal ends the first wait before the agent has ended.
if kill -0 "$agent" 2>/dev/null; then
  wait "$agent"
  status=$?
fi
[ -z "$stopped" ] || overlayd down --config "$config"
exit "$status"
