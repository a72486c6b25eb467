import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { BaseImages } from '../../receiver/base_images.js';
import { inspectJournal } from '../../receiver/journal/inspection.js';
import * as native from '../../native/index.js';
import { serveDevices } from '../../receiver/serving.js';
import { Store } from '../../receiver/store.js';
import { systemError } from '../../service/system_errors.js';
function fault(code, errno) {
    return Object.assign(new Error(`${code}: it failed`), { code, errno });
}
t.test('what the system says has a code, and names its path', (t) => {
    t.match(systemError(fault('ENOSPC', -28), '/srv'), { code: 'DISK_FULL', message: /^\/srv: ENOSPC/ });
    t.match(systemError(fault('EDQUOT', -122), '/srv', 'JOURNAL_FULL'), { code: 'JOURNAL_FULL' });
    t.match(systemError(fault('EFBIG', -27), '/srv'), { code: 'DISK_FULL' });
    t.match(systemError(fault('EROFS', -30), '/srv'), { code: 'PERMISSION_DENIED' });
    t.match(systemError(fault('EIO', -5), '/srv'), { code: 'IO_ERROR' });
    const fromAddon = new AfterimageError('IO_ERROR', 'flush', { cause: fault('IO_ERROR', 28) });
    t.match(systemError(fromAddon, '/srv'), { code: 'DISK_FULL', message: '/srv: flush' });
    t.match(systemError(new AfterimageError('BACKING_BUSY', 'held'), '/srv'), { code: 'BACKING_BUSY' });
    t.match(systemError(new Error('a defect'), '/srv'), { code: 'INTERNAL' });
    t.end();
});
t.test('no door to the disk shows what the system says as a defect', async (t) => {
    const directory = t.testdir();
    const file = path.join(directory, 'file');
    await writeFile(file, '');
    const below = path.join(file, 'below');
    const coded = { code: 'IO_ERROR', message: new RegExp(file) };
    await t.rejects(new BaseImages(native, { check: () => Promise.resolve() }).begin(below, 4096n), coded);
    await t.rejects(inspectJournal({ directory: below }), coded);
    await t.rejects(serveDevices(native, below, []), coded);
    const store = await Store.init(path.join(directory, 'store'), 'b1f3c8e2-1b7e-4a51-9d3b-3f1c2d4e5f60');
    await mkdir(path.join(store.directory, 'groups'), { recursive: true });
    await writeFile(path.join(store.directory, 'groups', 'a'), '');
    await t.rejects(store.createMember('a', 'b'), { code: 'IO_ERROR', message: /groups/ });
    await chmod(directory, 0o700);
});
//# sourceMappingURL=system_errors.test.js.map