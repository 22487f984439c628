// What the agent says of a field is said of the option that it comes from.
import test from "ava";
import { messageInOptions } from "../../src/cli/option-names.ts";
import { UserError } from "../../src/lib/errors.ts";

const rows: [field: string | undefined, message: string, said: string][] = [
  ["dnsTtlSeconds", "dnsTtlSeconds: a TTL is a day at most", "--dns-ttl: a TTL is a day at most"],
  ["networks.0.aliases.0", "networks.0.aliases.0: an alias has letters", "--network: an alias has letters"],
  ["workload.stopGracePeriodMs", "workload.stopGracePeriodMs: at most an hour", "--stop-grace-period: at most an hour"],
  ["name", "name: a name has letters", "name: a name has letters"],
  ["ports.0.published", "port 80/tcp is named twice", "port 80/tcp is named twice"],
  ["portsmouth", "portsmouth: no such field", "portsmouth: no such field"],
  [undefined, "labels: none", "labels: none"],
];
for (const [field, message, said] of rows) {
  test(`of ${field}, '${message}' is '${said}'`, (t) => {
    t.is(messageInOptions(new UserError(400, message, field === undefined ? {} : { field })), said);
  });
}

test("what is no mistake of a person's is said as it is", (t) => {
  t.is(messageInOptions(new Error("labels: none")), "labels: none");
});
