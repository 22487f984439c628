// How a command is run under another hostname, with unshare(1).

/**
 * argv that runs `argv` under another hostname, in a UTS namespace of its own. `unshare`: unshare(1)'s path. hostname(1) is
 * the machine's own, whatever PATH the command has.
 */
export function underHostname(unshare: string, hostname: string, argv: readonly string[]): string[] {
  const script = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin hostname "$0" && exec "$@"';
  return [unshare, "--uts", "/bin/sh", "-c", script, hostname, ...argv];
}
