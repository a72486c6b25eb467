import { FaultDirectory } from '../fault/fault_directory.js';
import { Disk } from './disk.js';
/** `directory`: of the state, which goes with it. `open`: opens it where it is told to. */
export async function recordOpening(scratch, name, { files }, directory, open) {
    const existing = new Map(files.map((file) => [file.path, Buffer.from(file.content())]));
    const recorded = await FaultDirectory.start(scratch, name, directory);
    try {
        await open(recorded.mount);
    }
    finally {
        await recorded.stop();
    }
    const operations = (await recorded.operations()).filter(({ path }) => !path.endsWith('-shm'));
    return { operations, disk: new Disk(operations, existing) };
}
//# sourceMappingURL=second_loss.js.map