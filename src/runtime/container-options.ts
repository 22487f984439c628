// A task's two containers, in the engine's words: one that holds the network namespace, and the task's own in it.
import type Docker from "dockerode";
import type { ContainerWorkload, Mount } from "../cluster/workload.ts";
import { PAUSE_IMAGE } from "./pause-image.ts";
import type { TaskSpec } from "./runtime.ts";

/** The node's name, for people. On a container that another program started it names the node that is to attach it. */
export const NODE_LABEL = "overlayd.node";
/** By these an agent finds its containers again: nodes of several clusters may share an engine, and have equal names. */
export const NODE_ID_LABEL = "overlayd.node-id";
export const TASK_LABEL = "overlayd.task";
export const ROLE_LABEL = "overlayd.role";
export type Role = "pause" | "task";

/** The longest that sethostname(2) takes. */
const HOSTNAME_MAX_CHARS = 63;

/** The node whose agent starts the containers. */
export interface OwnNode {
  /** The id of its data directory, which stays the same when the cluster forgets the node. */
  id: string;
  name: string;
  /** The id of its row in the cluster, which agents of earlier versions used for a label; undefined while it has none. */
  rowId: string | undefined;
}

/** Whether the labels are those of a container of one of the node's tasks. */
export function isOf({ id, rowId }: OwnNode, labels: Readonly<Record<string, string>>): boolean {
  return isOwn(labels) && [id, rowId].includes(labels[NODE_ID_LABEL]);
}

/** Whether the labels are those of a container that an agent started for a task. */
export function isOwn(labels: Readonly<Record<string, string>>): boolean {
  return [NODE_ID_LABEL, TASK_LABEL, ROLE_LABEL].every((label) => labels[label] !== undefined);
}

type Options = Docker.ContainerCreateOptions;

export function pauseOptions(spec: TaskSpec<ContainerWorkload>, node: OwnNode): Options {
  const { hosts, resolver } = spec.naming;
  const hostname = spec.naming.hostname ?? spec.name.slice(0, HOSTNAME_MAX_CHARS);
  const own = spec.address === null ? [] : [{ name: hostname, address: spec.address }];
  return {
    name: `${spec.name}.${spec.id}.pause`,
    Image: PAUSE_IMAGE,
    Hostname: hostname,
    Labels: ownLabels(spec.id, node, "pause"),
    HostConfig: {
      NetworkMode: "none",
      Dns: [...resolver.nameservers],
      // Without any, Docker would give the node's own.
      DnsSearch: resolver.search.length === 0 ? ["."] : [...resolver.search],
      DnsOptions: [...resolver.options],
      ExtraHosts: [...own, ...hosts].map(({ name, address }) => `${name}:${address}`),
      RestartPolicy: { Name: "no" },
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      Init: false,
    },
  };
}

/** `pause` is the other container's id. */
export function taskOptions(spec: TaskSpec<ContainerWorkload>, node: OwnNode, pause: string): Options {
  const { workload } = spec;
  return {
    name: `${spec.name}.${spec.id}`,
    Image: workload.image,
    Env: Object.entries(workload.env).map(([name, value]) => `${name}=${value}`),
    ...(workload.entrypoint === null ? {} : { Entrypoint: workload.entrypoint }),
    ...(workload.command.length === 0 ? {} : { Cmd: workload.command }),
    ...(workload.workdir === null ? {} : { WorkingDir: workload.workdir }),
    ...(workload.user === null ? {} : { User: workload.user }),
    Labels: { ...workload.labels, ...ownLabels(spec.id, node, "task") },
    HostConfig: {
      NetworkMode: `container:${pause}`,
      RestartPolicy: { Name: "no" },
      Mounts: workload.mounts.map(mountSettings),
      CapAdd: workload.capAdd,
      ...(workload.memoryBytes === null ? {} : { Memory: workload.memoryBytes }),
      ...(workload.cpus === null ? {} : { NanoCpus: Math.round(workload.cpus * 1e9) }),
      ...(workload.init ? { Init: true } : {}),
    },
  };
}

function ownLabels(id: string, node: OwnNode, role: Role): Record<string, string> {
  return { [NODE_LABEL]: node.name, [NODE_ID_LABEL]: node.id, [TASK_LABEL]: id, [ROLE_LABEL]: role };
}

function mountSettings({ type, source, target, readOnly, sizeBytes }: Mount): Docker.MountSettings {
  const mount: Docker.MountSettings = { Type: type, Source: source ?? "", Target: target, ReadOnly: readOnly };
  return sizeBytes === null ? mount : { ...mount, TmpfsOptions: { SizeBytes: sizeBytes, Mode: 0o1777 } };
}
