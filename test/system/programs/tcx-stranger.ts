// Another software's program on a link, as its tcx program would be: it returns one verdict for every packet, until this process ends.
// ARGUMENTS: the interface's index; next, pass or drop; first or last, among the programs that are there.
import { Tcx } from "../../../src/linux/bpf-abi.ts";
import { BpfAssembler } from "../../../src/linux/bpf-assembler.ts";
import { loadProgram, ProgramType } from "../../../src/linux/bpf-program.ts";
import { makeTcxLink } from "../../../src/linux/tcx-link.ts";

const VERDICTS: ReadonlyMap<string, number> = new Map([
  ["next", Tcx.Next],
  ["pass", Tcx.Pass],
  ["drop", Tcx.Drop],
]);

const [index, verdict, place] = process.argv.slice(2);
const code = new BpfAssembler().exit(VERDICTS.get(verdict!)!).assemble();
makeTcxLink(loadProgram({ type: ProgramType.SchedCls, name: "stranger", code }), Number(index), {
  first: place === "first",
});
console.log("on the link");
setInterval(() => {}, 1 << 30);
