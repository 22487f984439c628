// Where tasks go, against the rule applied to all nodes for each task; and how many nodes are looked at for it.
import test from "ava";
import fc from "fast-check";
import { Features } from "../../src/cluster/features.ts";
import { Node, type Service, type Task } from "../../src/cluster/schema.ts";
import { Draft, emptyState } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import { Places } from "../../src/leader/placement.ts";

const FEATURES = new Features();

interface Counted {
  health: Node["health"];
  /** Tasks that it has of each service. */
  tasks: readonly number[];
}

function nodeRow(i: number, health: Node["health"]): Node {
  const identity = {
    name: `node${i}`,
    address: `192.0.2.${i}`,
    vxlanPort: 4789,
    sealed: null,
    ingressAddress: `10.192.0.${i}`,
  };
  const rest = { manager: false, role: "worker", availability: "active", state: "ready", createdAt: 0 };
  return { ...Node.parse({ id: `${i}`.padStart(25, "n"), ...identity, ...rest }), health };
}

function taskRow(id: string, serviceId: string, nodeId: string | null): Task {
  const rest = { drain: null, addresses: {}, attachment: null, error: null, createdAt: 0 };
  return { id, serviceId, slot: 1, nodeId, desired: "running", ...rest };
}

function serviceRow(id: string, constraints: string[] = []): Service {
  return { id, workload: { runtime: "process" }, constraints, networks: [], ports: [] } as unknown as Service;
}

function draftOf(nodes: readonly Counted[]): Draft {
  const draft = new Draft(emptyState());
  for (const [i, { health, tasks }] of nodes.entries()) {
    const node = nodeRow(i, health);
    draft.put("nodes", node);
    for (const [service, count] of tasks.entries()) {
      for (let n = 0; n < count; n++) draft.put("tasks", taskRow(`${i}-${service}-${n}`, `s${service}`, node.id));
    }
  }
  return draft;
}

/** The rule as it is said: the fewest tasks of the service, then of all, then the first name. */
function byRule({ nodes, tasks }: State, serviceId: string, excluded: string | undefined): string | undefined {
  const able = [...nodes.values()].filter(({ health, name }) => health === "well" && name !== excluded);
  const own = (node: Node) => tasks.by("node", node.id).filter((task) => task.serviceId === serviceId).length;
  const all = (node: Node) => tasks.by("node", node.id).length;
  const order = (a: Node, b: Node) => own(a) - own(b) || all(a) - all(b) || (a.name < b.name ? -1 : 1);
  return able.toSorted(order)[0]?.name;
}

test("each task goes where the rule says, over several services in one turn", (t) => {
  const node = fc.record({
    health: fc.constantFrom<Node["health"]>("well", "well", "well", "behind"),
    tasks: fc.array(fc.nat(3), { minLength: 2, maxLength: 2 }),
  });
  const wanted = fc.array(fc.record({ service: fc.nat(2), count: fc.nat(9), excluded: fc.option(fc.nat(5)) }));
  fc.assert(
    fc.property(fc.array(node, { maxLength: 6 }), wanted, (nodes, turns) => {
      const draft = draftOf(nodes);
      const places = new Places(draft.state, FEATURES);
      let placed = 0;
      for (const { service, count, excluded } of turns) {
        const id = `s${service}`;
        const name = excluded === null ? undefined : `node${excluded}`;
        const search = places.for(serviceRow(id, name === undefined ? [] : [`node.name!=${name}`]));
        for (let i = 0; i < count; i++) {
          const best = search.best();
          t.is(best?.node.name, byRule(draft.state, id, name));
          if (best === undefined) break;
          draft.put("tasks", taskRow(`placed-${placed++}`, id, best.node.id));
          search.took(best.node);
          places.take(best);
        }
      }
    }),
  );
});

test("a task of a service with few tasks is placed without a look at all nodes", (t) => {
  const draft = draftOf(Array.from({ length: 200 }, () => ({ health: "well", tasks: [] })));
  let looks = 0;
  const counting = {
    missing: () => {
      looks++;
      return undefined;
    },
  } as unknown as Features;
  const places = new Places(draft.state, counting);
  for (let service = 0; service < 50; service++) {
    const search = places.for(serviceRow(`s${service}`));
    for (let i = 0; i < 10; i++) {
      const best = search.best()!;
      search.took(best.node);
      places.take(best);
    }
  }
  t.is(looks, 500, "one node for each task");
});

test("why services have no place costs no look at each node that takes no tasks at all", (t) => {
  const draft = draftOf(Array.from({ length: 3 }, () => ({ health: "behind", tasks: [] })));
  let looks = 0;
  const { nodes } = draft.state;
  const counted = {
    size: nodes.size,
    by: () => [],
    values: () => {
      looks += nodes.size;
      return nodes.values();
    },
  };
  const state = { ...draft.state, nodes: counted } as unknown as State;
  const places = new Places(state, FEATURES);
  for (let i = 0; i < 100; i++) {
    const service = serviceRow(`s${i}`);
    t.is(places.for(service).best(), undefined);
    t.is(places.whyNowhere(service), "no suitable node (3 nodes are behind with their state)");
  }
  t.is(looks, 3);
});
