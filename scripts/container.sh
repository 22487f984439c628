#!/bin/sh
# The agent in a container, with /etc/overlayd.yaml. Where the container is stopped, its network ends, and with it every
# link of the node: so nothing is kept for the next start, and tasks do not stay behind. After a crash they do: the
# container is started again, by its restart policy, and the agent adopts them.
set -u
config=/etc/overlayd.yaml

# Docker shows /proc/sys for reading only; the settings of this network namespace are the agent's to make.
mount -o remount,rw,bind /proc/sys || exit 1

overlayd --config "$config" &
agent=$!
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
