/** Room that is kept for those who make more of it. */
import { stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { StoreRoom } from '../../receiver/store_room.js';
const MIB = 1024n * 1024n;
t.test('a part of the headroom lies in a file, takes its place there, and gives it back', async (t) => {
    const directory = t.testdir();
    const file = path.join(directory, 'reserve');
    const room = await StoreRoom.measure(directory, 4n * MIB);
    t.ok(room.headroomBytes > 0n && room.headroomBytes <= 40n * MIB);
    await room.setAside();
    const { size, blocks } = await stat(file);
    t.equal(BigInt(size), room.asideBytes);
    t.ok(blocks * 512 >= size, 'it is no hole');
    await room.use();
    await t.rejects(stat(file), { code: 'ENOENT' });
    await room.use();
    // Half of one that a crash has left is filled up.
    await writeFile(file, 'x');
    await room.setAside();
    t.equal(BigInt((await stat(file)).size), room.asideBytes);
    await room.check();
});
//# sourceMappingURL=store_room.test.js.map