// Prints, as JSON, the names of the programs that see what comes in by each interface of the network namespace that it is started in.
import { tcxPrograms } from "../../../src/linux/tcx-link.ts";

const namesByInterface: Record<string, (string | undefined)[]> = {};
const interfaces = process.argv.slice(2);
for (const name of interfaces) {
  const [interfaceName, index] = name.split("=") as [string, string];
  namesByInterface[interfaceName] = tcxPrograms(Number(index)).map((program) => program.name);
}
console.log(JSON.stringify(namesByInterface));
