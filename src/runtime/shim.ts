// The shim: a shell between the agent and a task, which waits for the task and writes down how it ended.

/**
 * The shim outlives the agent, in a session of its own. The task leads another session, so that a signal to its process
 * group does not reach the shim; the shim ignores signals to itself, for the exit status would be lost. The shell's own
 * message about a child that a signal ended ("Killed") is kept out of the task's log.
 * Arguments: the task's directory, its PATH, then what env(1) takes: NAME=VALUE..., the command.
 */
const SHIM = `
directory=$1 path=$2; shift 2
PATH=/usr/sbin:/usr/bin:/sbin:/bin
trap : HUP INT TERM
exec 3>&2 2>/dev/null
(exec setsid /bin/sh -c '
  IFS= read -r stat < "/proc/$$/stat"
  (umask 077; printf "%s\\n" "$stat" > "$0/pid.new") && mv "$0/pid.new" "$0/pid" || exit
  PATH=$1; shift
  exec /usr/bin/env -- "$@"
' "$directory" "$path" "$@") 2>&3 3>&-
status=$?
umask 077
printf "%s\\n" "$status" > "$directory/exit.new"
mv "$directory/exit.new" "$directory/exit"
`;

interface Shim {
  argv: string[];
  env: Record<string, string>;
}

/**
 * The command of the shim. The task's variables are in its environment, because every user of the machine may read
 * arguments. Only variables with names that a shell would not pass on ("discovery.type") are arguments.
 */
export function shim(directory: string, command: readonly string[], variables: Record<string, string>): Shim {
  const entries = Object.entries(variables);
  const isPlain = ([name]: [string, string]) => /^[A-Za-z_]\w*$/.test(name);
  const others = entries.filter((entry) => !isPlain(entry)).map(([name, value]) => `${name}=${value}`);
  return {
    argv: ["/bin/sh", "-c", SHIM, "overlayd-task", directory, variables.PATH ?? "", ...others, ...command],
    env: Object.fromEntries(entries.filter(isPlain)),
  };
}
