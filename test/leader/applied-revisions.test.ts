// The lowest revision of many nodes, against a loop over them.
import test from "ava";
import fc from "fast-check";
import { AppliedRevisions } from "../../src/leader/applied-revisions.ts";

test("the lowest revision is that of a loop over the nodes, whatever they report and whichever come and go", (t) => {
  const step = fc.record({ node: fc.constantFrom("a", "b", "c", "d"), revision: fc.option(fc.nat(5)) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const [revisions, plain] = [new AppliedRevisions(), new Map<string, number>()];
      for (const { node, revision } of steps) {
        if (revision === null) {
          revisions.delete(node);
          plain.delete(node);
        } else {
          revisions.set(node, revision);
          plain.set(node, revision);
        }
        t.is(revisions.lowest, Math.min(...plain.values()));
        t.is(revisions.get(node), plain.get(node));
      }
    }),
  );
});
