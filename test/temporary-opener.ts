// A process that makes a directory as tests do, says where it is, and ends when it is told to. Its argument: the directory to make it in.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "./temporary.ts";

const directory = temporaryDirectory("opened", process.argv[2]!);
writeFileSync(join(directory, "file"), "");
process.once("message", () => process.exit(0));
process.send!(directory);
