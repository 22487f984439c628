// The options that fields of a request come from: a person is told of what was typed, not of what was sent.
import { messageOf, UserError } from "../lib/errors.ts";

/** By a field, for it and all in it. What is left out is named alike. */
const OPTION_BY_FIELD: Readonly<Record<string, string>> = {
  address: "--ip",
  aliases: "--alias",
  "balancing.affinityTimeoutSeconds": "--affinity-timeout",
  "balancing.weights": "--weight",
  constraints: "--constraint",
  "dns.options": "--dns-option",
  "dns.search": "--dns-search",
  "dns.servers": "--dns",
  dnsTtlSeconds: "--dns-ttl",
  hostname: "--hostname",
  hosts: "--add-host",
  labels: "--label",
  mac: "--mac",
  networks: "--network",
  port: "--vtep",
  ports: "--publish",
  proxyProtocol: "--proxy-protocol",
  stopGraceMs: "--stop-grace",
  subnet: "--subnet",
  vtep: "--vtep",
  "workload.capAdd": "--cap-add",
  "workload.command": "COMMAND",
  "workload.cpus": "--limit-cpu",
  "workload.entrypoint": "--entrypoint",
  "workload.env": "--env",
  "workload.image": "IMAGE",
  "workload.labels": "--container-label",
  "workload.memoryBytes": "--limit-memory",
  "workload.mounts": "--mount",
  "workload.naming.dns.options": "--dns-option",
  "workload.naming.dns.search": "--dns-search",
  "workload.naming.dns.servers": "--dns",
  "workload.naming.hostname": "--hostname",
  "workload.naming.hosts": "--add-host",
  "workload.stopGracePeriodMs": "--stop-grace-period",
  "workload.user": "--user",
  "workload.workdir": "--workdir",
};

/** Its message; where it begins with a field, with the option instead. */
export function messageInOptions(error: unknown): string {
  const message = messageOf(error);
  if (!(error instanceof UserError) || error.field === undefined) return message;
  const { field } = error;
  const prefix = `${field}: `;
  const known = Object.keys(OPTION_BY_FIELD).find((key) => field === key || field.startsWith(`${key}.`));
  if (known === undefined || !message.startsWith(prefix)) return message;
  return `${OPTION_BY_FIELD[known]}: ${message.slice(prefix.length)}`;
}
