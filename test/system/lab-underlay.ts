// The underlay of a lab: a bridge in a namespace of its own, and hosts on it, each a namespace with one link.
import { run, tryRun } from "./command.ts";

/** Makes a host; `host` is the last byte of its address. */
type Connect = (name: string, host: number) => Promise<{ netns: string; address: string }>;

/** Makes the bridge. Its namespace, and those of its hosts, begin with `prefix`. */
export async function createUnderlay(prefix: string): Promise<Connect> {
  const netnsSwitch = `${prefix}-switch`;
  await run(["ip", "netns", "add", netnsSwitch]);
  await run(["ip", "-n", netnsSwitch, "link", "add", "br0", "type", "bridge"]);
  await run(["ip", "-n", netnsSwitch, "link", "set", "br0", "up"]);
  await passByNetfilter(netnsSwitch);

  return async (name, host) => {
    const netns = `${prefix}-${name}`;
    const address = `192.0.2.${host}`;
    await run(["ip", "netns", "add", netns]);
    const batch = `
      link add p${host} type veth peer name eth0 netns ${netns}
      link set p${host} master br0
      link set p${host} up`;
    await run(["ip", "-n", netnsSwitch, "-batch", "-"], { input: batch });
    const inside = `
      link set lo up
      link set eth0 up
      address add ${address}/24 dev eth0`;
    await run(["ip", "-n", netns, "-batch", "-"], { input: inside });
    return { netns, address };
  };
}

/** Where Docker has been started, bridges hand every frame to netfilter: those of this namespace no longer. */
export async function passByNetfilter(netns: string): Promise<void> {
  const setting = "net.bridge.bridge-nf-call-iptables=0";
  await tryRun(["nsenter", `--net=/run/netns/${netns}`, "sysctl", "-q", "-w", setting]);
}
