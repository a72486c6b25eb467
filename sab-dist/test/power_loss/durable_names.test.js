/**
 * Story: `receiver init` made the store's directory, and everything in it durable, but never its own name in the directory
 * above. Power loss some time later, with volumes synced and writes acknowledged, could take away the whole store: the
 * name was still only in memory, wherever the file system did not happen to write it along. (R4)
 *
 * What is made durable by name is recorded here through a fault-injecting directory, and looked for in the state of the
 * disk that lost everything that was not certain.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import path from 'node:path';
import t, {} from 'tap';
import { MemberState } from '../../agent/state.js';
import { Store } from '../../receiver/store.js';
import { FaultDirectory } from '../fault/fault_directory.js';
import { isRoot, skipUnless } from '../prerequisite.js';
import { Scratch } from '../scenario/scratch.js';
import { Disk } from './disk.js';
const NOTHING = { hasName: () => false, hasSector: () => false, hasSize: () => false };
/** What is left of what `make` made in a directory, when all that is uncertain is lost: contents by path. */
async function left(t, make) {
    const scratch = await Scratch.create('durable-names');
    t.teardown(() => scratch.clean());
    const recorded = await FaultDirectory.start(scratch, 'disk');
    await make(recorded.mount);
    const operations = await recorded.operations();
    const disk = new Disk(operations);
    disk.advance(operations.at(-1)?.end ?? 0);
    const { files } = disk.choose(NOTHING);
    return new Map(files.map((file) => [file.path, file.content().toString()]));
}
t.test('a store that was made is there after power loss', { skip: skipUnless(isRoot, 'root') }, async (t) => {
    const uuid = randomUUID();
    const files = await left(t, (directory) => Store.init(path.join(directory, 'deep/in/it'), uuid));
    t.match(files.get('/deep/in/it/store.json'), uuid);
});
t.test("so is a member's state in the agent's", { skip: skipUnless(isRoot, 'root') }, async (t) => {
    const files = await left(t, async (directory) => {
        const state = await MemberState.open(path.join(directory, 'deep/in/it'), 'db', 'host', () => randomBytes(16));
        await state.update({ host: 'before' });
        await state.update({ host: 'after' });
    });
    t.match(files.get('/deep/in/it/db.json'), '"after"');
});
//# sourceMappingURL=durable_names.test.js.map